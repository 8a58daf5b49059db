//! Which system calls are steps: those that change something that others can see.
#![forbid(unsafe_code)]

/// A system call that has succeeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Its number.
    pub(super) number: i64,
    /// Its arguments as they were at its begin.
    pub(super) arguments: [u64; 6],
}

/// What a step did, and the argument that is the name it did it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// In two or three words.
    pub(super) words: &'static str,
    /// Position of the argument that points to a path.
    pub(super) path: Option<usize>,
}

const fn on(words: &'static str, path: usize) -> Option<Step> {
    Some(Step { words, path: Some(path) })
}

const fn plain(words: &'static str) -> Option<Step> {
    Some(Step { words, path: None })
}

/// The step that a call is, if it is one.
pub(super) fn step_of(call: &Call) -> Option<Step> {
    if let Some(step) = old_form(call) {
        return Some(step);
    }
    match call.number {
        libc::SYS_mkdirat => on("make directory", 1),
        libc::SYS_openat | libc::SYS_openat2 if creates(call) => on("make file", 1),
        libc::SYS_renameat | libc::SYS_renameat2 => on("rename to", 3),
        libc::SYS_unlinkat => on("remove", 1),
        libc::SYS_mknodat => on("make device", 1),
        libc::SYS_fchmodat | libc::SYS_fchownat => on("change mode or owner of", 1),
        libc::SYS_fchmod | libc::SYS_fchown => plain("change mode or owner"),
        libc::SYS_ftruncate => plain("set length"),
        libc::SYS_fsync => plain("sync"),
        libc::SYS_flock => plain("lock"),
        libc::SYS_clone | libc::SYS_clone3 => plain("start a process or thread"),
        libc::SYS_pidfd_send_signal | libc::SYS_kill => plain("send a signal"),
        libc::SYS_bind => plain("bind a port"),
        _ => None,
    }
}

/// Whether an open may make the file. `openat2` has its flags behind a pointer; it counts as one that does not.
fn creates(call: &Call) -> bool {
    call.number == libc::SYS_openat && call.arguments[2] & libc::O_CREAT as u64 != 0
}

/// Calls that newer architectures do without.
#[cfg(target_arch = "x86_64")]
fn old_form(call: &Call) -> Option<Step> {
    match call.number {
        libc::SYS_mkdir => on("make directory", 0),
        libc::SYS_open if call.arguments[1] & libc::O_CREAT as u64 != 0 => on("make file", 0),
        libc::SYS_rename => on("rename to", 1),
        libc::SYS_unlink | libc::SYS_rmdir => on("remove", 0),
        libc::SYS_mknod => on("make device", 0),
        libc::SYS_chmod | libc::SYS_chown => on("change mode or owner of", 0),
        libc::SYS_fork | libc::SYS_vfork => plain("start a process or thread"),
        _ => None,
    }
}

/// Calls that newer architectures do without.
#[cfg(not(target_arch = "x86_64"))]
fn old_form(_call: &Call) -> Option<Step> {
    None
}

/// A path in which neither a job's number nor a process's shows, so that two runs have the same steps.
pub(super) fn without_numbers(path: &str) -> String {
    let mut words = String::new();
    for c in path.chars() {
        match c {
            '0'..='9' if words.ends_with('N') => {}
            '0'..='9' if words.ends_with("job-") || words.ends_with('.') => words.push('N'),
            c => words.push(c),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: i64, arguments: [u64; 6]) -> Option<&'static str> {
        step_of(&Call { number, arguments }).map(|step| step.words)
    }

    #[test]
    fn reading_is_no_step_and_making_is() {
        let create = (libc::O_CREAT | libc::O_WRONLY) as u64;
        assert_eq!(call(libc::SYS_openat, [0, 0, 0, 0, 0, 0]), None);
        assert_eq!(call(libc::SYS_openat, [0, 0, create, 0, 0, 0]), Some("make file"));
        assert_eq!(call(libc::SYS_read, [0; 6]), None);
        assert_eq!(call(libc::SYS_renameat, [0; 6]), Some("rename to"));
    }

    #[test]
    fn two_jobs_have_the_same_steps() {
        assert_eq!(without_numbers("job-127.record"), "job-N.record");
        assert_eq!(without_numbers("/run/x2/job-7/config.cfg"), "/run/x2/job-N/config.cfg");
        assert_eq!(without_numbers(".job-7.record.4711"), ".job-N.record.N");
        assert_eq!(without_numbers("channel0"), "channel0");
    }
}
