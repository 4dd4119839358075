//! Cleaning up after this process, however it ends.
//!
//! A value in a `static` is never dropped and SIGKILL runs no code at all. So a shell waits on a
//! pipe whose other end only this process holds: when the process is gone, the pipe closes and the
//! shell cleans up. Not `PR_SET_PDEATHSIG`: that fires when the thread that spawned it ends.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// The shell that waits. Dropping this makes it clean up at once.
#[derive(Debug)]
pub(crate) struct Reaper {
    shell: Child,
}

impl Reaper {
    /// Makes a shell run `script` with `arguments` (`$1` and on) when this process ends.
    /// `identity` is whom it runs as, where that is not whom we run as.
    pub(crate) fn new(script: &str, arguments: &[&str], identity: Option<Identity>) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("cat >/dev/null; {script}"), "reaper"])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: what Ctrl-C sends to ours must not end it before it has cleaned up.
            .process_group(0);
        if let Some(identity) = identity {
            identity.apply(&mut command);
        }
        Ok(Self { shell: command.spawn()? })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        // Waiting closes the pipe first.
        let _ = self.shell.wait();
    }
}

/// A user of this machine, by numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Identity {
    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}
