/*
 * Loaded before user-mode-linux, on x86-64.
 *
 * The kernel takes the extended registers of a traced process whole or not at all (ptrace(2), PTRACE_SETREGSET with
 * NT_X86_XSTATE). User-mode-linux 6.1 keeps 4 KiB of them; a processor with AMX has 11 KiB, and its first process dies of
 * a segmentation fault. Here what it does not keep stays as it is: the set is read, overlaid and written back.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

static char whole[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, long);
    long address = va_arg(arguments, long);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
        /* The call itself writes the word; it is the C library that returns it. */
        long word;
        long status = syscall(SYS_ptrace, request, pid, address, &word);
        return status < 0 ? status : word;
    }
    if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE) {
        struct iovec *part = data;
        struct iovec all = {whole, sizeof whole};
        if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &all) == 0 && part->iov_len < all.iov_len) {
            memcpy(whole, part->iov_base, part->iov_len);
            return syscall(SYS_ptrace, request, pid, address, &all);
        }
    }
    return syscall(SYS_ptrace, request, pid, address, data);
}
