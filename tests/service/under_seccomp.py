#!/usr/bin/env python3
"""Runs a program under a seccomp profile of the form that container engines read.

    under_seccomp.py PROFILE [--without PREFIX] PROGRAM ARGUMENT...

`--without cells:` leaves out the rules whose comment begins so: what is left refuses namespaces and mounts, as the
default profiles of container engines do. Numbers of system calls come from the sandbox's own table.
"""
import ctypes
import json
import os
import platform
import re
import struct
import sys

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
MACHINES = {"x86_64": ("X86_64", 0xC000003E), "aarch64": ("AARCH64", 0xC00000B7)}
LOAD, JUMP_EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06


def numbers(name):
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
    with open(os.path.join(root, "crates/portcullis-sandbox/src/seccomp/table.rs")) as file:
        text = file.read()
    text = text[re.search(rf"const {name}: &\[Run\]", text).end() :]
    found = {}
    for first, names in re.findall(r"\((\d+), &\[(.*?)\]\)", text[: text.index("\n];")], re.DOTALL):
        for offset, call in enumerate(re.findall(r'"(\w+)"', names)):
            found[call] = int(first) + offset
    return found


def condition(arg):
    """Returns instructions that go on when an argument compares, and jump behind the rule (a hole) when not."""
    low, high = 16 + 8 * arg["index"], 20 + 8 * arg["index"]
    if arg["op"] == "SCMP_CMP_EQ":
        mask, value = 0xFFFFFFFFFFFFFFFF, arg["value"]
    elif arg["op"] == "SCMP_CMP_MASKED_EQ":
        mask, value = arg["value"], arg["valueTwo"]
    else:
        raise SystemExit(f"{arg['op']} is not understood here")
    code = []
    for offset, shift in ((low, 0), (high, 32)):
        code += [(LOAD, 0, 0, offset), (AND, 0, 0, mask >> shift & 0xFFFFFFFF)]
        code += [(JUMP_EQUAL, 0, None, value >> shift & 0xFFFFFFFF)]
    return code


def compile_profile(profile, without):
    table, arch = MACHINES[platform.machine()]
    known = numbers(table)
    code = [(LOAD, 0, 0, 4), (JUMP_EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL)]
    for rule in profile["syscalls"]:
        if without and rule["comment"].startswith(without):
            continue
        action = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else ERRNO | rule["errnoRet"]
        for name in rule["names"]:
            if name not in known:
                continue  # of the other machine
            body = [step for arg in rule.get("args", []) for step in condition(arg)] + [(RETURN, 0, 0, action)]
            body = [
                (op, jt, len(body) - at - 1 if jf is None else jf, k) for at, (op, jt, jf, k) in enumerate(body)
            ]
            code += [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, len(body), known[name])] + body
    return code + [(RETURN, 0, 0, ERRNO | profile["defaultErrnoRet"])]


def main():
    words = sys.argv[1:]
    with open(words.pop(0)) as file:
        profile = json.load(file)
    without = None
    if words[0] == "--without":
        without = words[1]
        words = words[2:]
    code = compile_profile(profile, without)
    packed = b"".join(struct.pack("HBBI", *step) for step in code)
    instructions = ctypes.create_string_buffer(packed, len(packed))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(len(code), ctypes.cast(instructions, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS, for who is not root; PR_SET_SECCOMP, SECCOMP_MODE_FILTER.
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise SystemExit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(words[0], words)


main()
