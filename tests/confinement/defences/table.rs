//! What is taken away, and which tests miss it.

/// A row of the table.
pub(super) struct Row {
    /// The layers that are gone.
    pub(super) gone: &'static [&'static str],
    /// The tests that fail then, each with a text of its complaint, or one of two.
    pub(super) missed_by: &'static [(&'static str, &'static str)],
    /// What that means, for the threat model.
    pub(super) then: &'static str,
}

const fn row(
    gone: &'static [&'static str],
    missed_by: &'static [(&'static str, &'static str)],
    then: &'static str,
) -> Row {
    Row { gone, missed_by, then }
}

/// Layers that only count under a starter with higher limits, which `CAP_SYS_RESOURCE` alone gives.
pub(super) const AGAINST_HIGHER_LIMITS: [&str; 2] = ["RLIMIT_NICE", "RLIMIT_RTPRIO"];

/// In the order of the view, Landlock, the filter, privileges, namespaces, limits of processes, limits of groups, and
/// what a command is handed.
#[rustfmt::skip] // one row, one line
pub(super) const ROWS: &[Row] = &[
    row(&["view"], &[("files::what_is_not_in_the_view_is_absent_even_to_stat_access_and_chdir", "statx = 0")], "names and modes of the host's files; Landlock refuses their contents"),
    row(&["view", "Landlock"], &[("files::what_is_not_in_the_view_is_absent_even_to_stat_access_and_chdir", "statx = 0"), ("files::the_stand_in_for_etc_knows_one_user_and_no_secret", "daemon:x:1:1")], "the host's files"),
    row(&["protected directories"], &[("files::protected_directories_of_a_mount_are_covered", "openat = 3\", \"openat = 4\", \"openat = 5")], "what is protected"),
    row(&["read-only mounts"], &[("files::a_mount_for_reading_is_not_written_whatever_its_modes", "mkdirat ! EACCES"), ("files::every_mount_of_the_view_is_locked", "/ is writable")], "a right to write refused by Landlock, no more by the mount"),
    row(&["read-only mounts", "Landlock"], &[("files::a_mount_for_reading_is_not_written_whatever_its_modes", "mkdirat = 0")], "files of the host that it can write"),
    row(&["noexec"], &[("execute::the_dynamic_loader_starts_nothing_else", "uid=1000(user)"), ("execute::nothing_writable_is_executable", "mprotect = 0")], "a program started by the loader, and its own code mapped"),
    row(&["noexec", "Landlock"], &[("execute::a_program_that_the_permit_does_not_name_is_not_executed", "uid=1000(user)")], "any program of the host run"),
    row(&["nosuid"], &[("files::every_mount_of_the_view_is_locked", "lacks nosuid")], "a mount without the flag; `no_new_privs` and a user namespace of one id leave set-id bits without effect all the same"),
    row(&["nodev"], &[("files::a_device_node_of_a_mount_is_not_opened", "printed [\"openat = 3\"]"), ("files::every_mount_of_the_view_is_locked", "lacks nodev")], "a device opened"),
    row(&["size"], &[("limits::the_workspace_is_bounded_in_bytes_and_names", "Limited(FileSize)")], "a workspace of any size"),
    row(&["nr_inodes"], &[("limits::the_workspace_is_bounded_in_bytes_and_names", "Limited(Memory)")], "a workspace of any number of names"),
    row(&["hidepid"], &[("kernel::other_processes_do_not_exist", "printed [\"1\"")], "the cell's own processes in `/proc`"),
    row(&["subset"], &[("interfaces::settings_of_the_kernel_and_control_groups_are_absent", "access = 0")], "settings of the kernel"),
    row(&["O_NOFOLLOW"], &[("files::a_redirection_follows_no_planted_link", "access = 0")], "a planted link followed"),

    row(&["Landlock"], &[("files::writing_does_not_include_deleting", "unlinkat = 0"), ("files::a_command_reads_what_its_own_permit_gives", "openat = 5"), ("execute::each_command_of_a_pipeline_executes_only_itself", "uid=1000(user)")], "the rights of every command of the line"),
    row(&["Landlock scopes"], &[("neighbours::processes_of_one_execution_do_not_trace_each_other", "kill = 0")], "a signal to a neighbour of the line"),
    row(&["Landlock TCP", "seccomp: sockets", "network namespace"], &[("network::a_port_of_the_host_is_out_of_reach", "connect = 0")], "a port of the host"),
    row(&["seccomp: sockets", "network namespace"], &[("network::a_port_of_the_host_is_out_of_reach", "connect ! EACCES")], "a socket; Landlock refuses to connect it"),

    row(&["seccomp"], &[("kernel::namespaces_are_not_made_or_joined", "unshare = 0"), ("execute::privileges_are_not_gained_by_execution", "Seccomp:\\t0")], "every call of the kernel"),
    row(&["seccomp: namespaces"], &[("kernel::namespaces_are_not_made_or_joined", "unshare = 0")], "a user namespace of its own, with every capability in it"),
    row(&["seccomp: mounts"], &[("interfaces::nothing_is_mounted_by_any_command_of_a_line", "fsconfig ! EINVAL")], "calls for mounts, which the kernel refuses to who has no capability"),
    row(&["seccomp: special files"], &[("interfaces::set_id_bits_are_refused_by_every_call_that_takes_a_mode", "fchmodat2 = 0\", \"fchmodat2 = 0"), ("files::set_id_bits_and_device_nodes_are_never_made", "mkdirat = 0")], "set-id bits made"),
    row(&["seccomp: execution from memory"], &[("execute::nothing_is_executed_from_memory", "memfd_create = 4")], "memory that can be executed"),
    row(&["seccomp: terminals"], &[("kernel::terminals_are_not_fed_also_with_high_bits_set", "ioctl ! ENOTTY")], "`TIOCSTI` reaching the driver"),
    row(&["seccomp: descriptors"], &[("interfaces::flags_of_a_descriptor_do_not_reach_the_service", "fcntl = 4096")], "owners and sizes of the service's pipes changed"),
    row(&["seccomp: watching"], &[("interfaces::shared_files_can_be_neither_watched_nor_locked_nor_leased", "inotify_init1 = 3")], "shared files watched"),
    row(&["seccomp: sockets"], &[("kernel::no_socket_but_local_pairs_and_local_ones", "socket = 3"), ("network::no_family_of_sockets_but_the_local_one_by_any_command_of_a_line", "socket = 4")], "sockets of every family"),
    row(&["seccomp: tracing"], &[("neighbours::processes_of_one_execution_do_not_trace_each_other", "process_vm_readv = 0")], "calls to trace answered"),
    row(&["seccomp: keys"], &[("leavings::keys_are_neither_left_nor_found", "add_key = ")], "keys left for the next execution"),
    row(&["seccomp: kernel machinery"], &[("interfaces::interfaces_of_the_kernel_are_closed_whatever_their_arguments", "io_uring_setup = 3")], "`io_uring` set up"),
    row(&["seccomp: file handles"], &[("interfaces::interfaces_of_the_kernel_are_closed_whatever_their_arguments", "name_to_handle_at ! 75")], "a file handle"),
    row(&["seccomp: the host"], &[("interfaces::interfaces_of_the_kernel_are_closed_whatever_their_arguments", "init_module ! ENOSYS")], "`sync` of the host's disks"),
    row(&["seccomp: clocks"], &[("interfaces::interfaces_of_the_kernel_are_closed_whatever_their_arguments", "clock_adjtime = ")], "the clock's state"),
    row(&["seccomp: memory placement"], &[("interfaces::interfaces_of_the_kernel_are_closed_whatever_their_arguments", "mbind = 0")], "memory placed on nodes"),
    row(&["seccomp: retired"], &[("interfaces::retired_calls_are_absent", "136 ! EINVAL")], "calls of another age"),
    row(&["seccomp: attributes"], &[("files::modes_owners_times_and_attributes_stay_where_only_reading_is_given", "fchmodat ! EROFS"), ("files::a_reader_cannot_change_what_its_neighbour_may_write", "utimensat = 0")], "a reader that changes its neighbour's modes and times"),
    row(&["seccomp: sockets without a network namespace"], &[("levels::without_namespaces_there_is_no_socket_and_no_signal_outside", "socket = 3")], "a socket that reaches the host"),
    row(&["seccomp: neighbours without a pid namespace"], &[("levels::without_namespaces_limits_and_places_of_others_stay", "sched_setaffinity = 0")], "limits of the service's own processes"),
    row(&["seccomp: objects without an IPC namespace"], &[("levels::without_namespaces_calls_of_the_kernel_are_closed_too", "shmget = ")], "objects that outlive the execution"),
    row(&["Landlock ABI 6", "seccomp: signals without a scope"], &[("levels::without_namespaces_there_is_no_socket_and_no_signal_outside", "kill = 0|the launcher has ended")], "a signal to the launcher"),

    row(&["no_new_privs"], &[("execute::privileges_are_not_gained_by_execution", "step: \"seccomp\"")], "nothing run: the kernel takes no filter from who could gain privileges"),
    row(&["no_new_privs", "capabilities"], &[("execute::privileges_are_not_gained_by_execution", "NoNewPrivs:\\t0")], "`NoNewPrivs: 0`"),
    row(&["bounding set"], &[("execute::privileges_are_not_gained_by_execution", "CapBnd:\\t000001ff")], "a full bounding set"),
    row(&["capabilities", "bounding set", "what execve takes away"], &[("execute::privileges_are_not_gained_by_execution", "CapEff:\\t000001ff")], "capabilities in a command; `execve` takes them from who is not root, so that one layer alone is not missed"),
    row(&["capabilities", "bounding set", "what execve takes away", "seccomp: mounts"], &[("kernel::nothing_is_mounted_by_any_call", "fsopen = 4")], "a file system mounted by a command"),
    row(&["capabilities"], &[("launcher::a_launcher_of_root_keeps_what_cells_need_and_no_other_capability", "CapEff:")], "a launcher with all that root has"),
    row(&["supplementary groups"], &[("interfaces::no_group_of_whoever_started_the_service_is_kept", "Groups:\\t65534")], "groups of the starter"),
    row(&["uid of its own"], &[("launcher::each_cell_has_a_uid_of_its_own", "two cells and the service: [0, 0, 0]")], "cells under the service's uid"),
    row(&["dumpable"], &[("launcher::launcher_and_cells_belong_to_nobody_who_would_trace_them", "did not come true")], "a launcher that its own user may trace"),

    row(&["user namespace"], &[("execute::a_program_that_the_permit_does_not_name_is_not_executed", "required, and not to be had")], "no level above `landlock`: the launcher has no right to the others without it"),
    row(&["mount namespace"], &[("execute::a_program_that_the_permit_does_not_name_is_not_executed", "required, and not to be had")], "no level above `landlock`: the host's own mounts cannot be changed"),
    row(&["pid namespace of the cell"], &[("kernel::other_processes_do_not_exist", "view: proc")], "no view: the kernel mounts no `/proc` of a namespace that is not the cell's"),
    row(&["pid namespace"], &[("interfaces::there_is_no_terminal_to_take", "getsid = 2")], "an execution whose first process is not 1; what it leaves behind ends with the cell"),
    row(&["network namespace"], &[("network::an_abstract_socket_of_the_host_is_out_of_reach", "connect ! EPERM")], "the host's abstract sockets, which Landlock's scope then refuses"),
    row(&["network namespace", "Landlock scopes"], &[("network::an_abstract_socket_of_the_host_is_out_of_reach", "connected")], "a connection to an abstract socket of the host"),
    row(&["IPC namespace"], &[("leavings::objects_of_the_kernel_end_with_their_execution", "semaphore is there, queue is there, mq ! ENOENT, socket ! ECONNREFUSED")], "objects of the execution before"),
    row(&["UTS namespace"], &[("leavings::files_names_and_places_end_with_their_execution", "expected [\"/workspace\", \"portcullis\"")], "the host's name"),
    row(&["cgroup namespace"], &[("interfaces::control_groups_are_named_as_if_the_cells_were_the_root", "/cell-0")], "where the service stands among the groups of the host"),

    row(&["RLIMIT_CORE"], &[("interfaces::every_limit_of_a_process_is_hard", "Max core")], "core files"),
    row(&["RLIMIT_CPU"], &[("interfaces::every_limit_of_a_process_is_hard", "Max cpu")], "CPU time that only the group counts"),
    row(&["RLIMIT_FSIZE"], &[("limits::a_file_is_bounded", "full after 256 MiB"), ("interfaces::every_limit_of_a_process_is_hard", "Max file size")], "a file of any size"),
    row(&["RLIMIT_NOFILE"], &[("limits::open_files_are_bounded", "openat = 5")], "any number of open files"),
    row(&["RLIMIT_LOCKS"], &[("interfaces::every_limit_of_a_process_is_hard", "Max file locks")], "a limit that today's kernels do not look at"),
    row(&["RLIMIT_MEMLOCK"], &[("interfaces::hard_limits_are_lowered_and_never_raised", "mlockall = 0")], "memory locked"),
    row(&["RLIMIT_MSGQUEUE"], &[("memory::queued_signals_timers_and_queues_are_bounded", "mq_open ! EACCES")], "a message queue"),
    row(&["RLIMIT_NICE"], &[("interfaces::a_better_place_is_taken_by_no_call", "setpriority = 0")], "a better place"),
    row(&["RLIMIT_RTPRIO"], &[("interfaces::a_better_place_is_taken_by_no_call", "sched_setscheduler = 0")], "real-time scheduling"),
    row(&["RLIMIT_SIGPENDING"], &[("memory::queued_signals_timers_and_queues_are_bounded", "refused after")], "signals queued"),
    row(&["pids.max"], &[("limits::more_processes_than_allowed_are_refused", "refused after 83")], "more processes; `RLIMIT_NPROC` refuses them later"),
    row(&["pids.max", "RLIMIT_NPROC"], &[("limits::more_processes_than_allowed_are_refused", "made 150")], "any number of processes"),
    row(&["control groups", "RLIMIT_DATA"], &[("limits::memory_of_one_process_is_bounded_whatever_counts_it", "holding 256")], "any amount of memory; with either of them it is bounded"),
    row(&["memory.max"], &[("limits::memory_over_the_limit_ends_the_execution", "holding 256"), ("memory::memory_of_every_kind_is_counted", "Exited(0)")], "any amount of memory"),
    row(&["memory.swap.max"], &[("limits::the_control_group_of_a_cell_holds_the_limits_of_its_line", "memory.memsw.limit_in_bytes")], "swap beside memory"),
    row(&["memory.swappiness"], &[("limits::the_control_group_of_a_cell_holds_the_limits_of_its_line", "memory.swappiness")], "memory swapped before its limit"),
    row(&["cpu.stat"], &[("limits::cpu_time_is_bounded_over_all_processes", "cpu_time: 0ns")], "CPU time that is bounded for each process alone"),
    row(&["cgroup.procs"], &[("limits::memory_over_the_limit_ends_the_execution", "holding 256")], "a cell outside its group"),
    row(&["control groups"], &[("limits::memory_over_the_limit_ends_the_execution", "required, and not to be had")], "level `namespaces`, and a record that says so"),
    row(&["oom_score_adj"], &[("interfaces::the_order_of_the_out_of_memory_killer_is_not_changed", "printed [\"0\"]")], "commands that are not the first to go"),

    row(&["close_range"], &[("kernel::three_descriptors_are_open_and_no_more", "77")], "a descriptor of whoever started the service"),
    row(&["session"], &[("interfaces::there_is_no_terminal_to_take", "getsid = 0")], "the session of the service"),
    row(&["umask"], &[("leavings::files_names_and_places_end_with_their_execution", "umask = 0")], "the starter's mask for new files"),
    row(&["signal dispositions"], &[("launcher::signals_are_what_they_are_by_default_whoever_started_the_service", "SigIgn")], "ignored signals"),
    row(&["signal mask"], &[("launcher::signals_are_what_they_are_by_default_whoever_started_the_service", "SigBlk")], "blocked signals"),
    row(&["parent-death signal"], &[("launcher::a_killed_launcher_takes_every_cell_and_command_with_it", "the execution ends")], "cells without a launcher"),
    row(&["subreaper"], &[("levels::without_namespaces_nothing_outlives_its_execution", "the execution ends")], "a daemon that outlives its execution at level `landlock`"),
];
