//! A serial line without hardware: two terminals that socat joins, as a null
//! modem cable would. It can be pulled out and put back under the same names.
//!
//! A pty has a speed and stop bits, but always 8 data bits and no parity, and
//! neither modem lines nor breaks: for those there is `Rfc2217Server`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    process::Signal,
    termios::{Termios, tcgetattr},
};

use super::{Background, FarSide, far_side::open_tty, peer, until};

/// Two joined terminals with lasting names. Pulled out when dropped.
pub(crate) struct PtyPair {
    program: PathBuf,
    near: PathBuf,
    far: PathBuf,
    socat: Option<Background>,
}

impl PtyPair {
    /// Plugs a pair in as `DIR/NAME` and `DIR/NAME-far`.
    pub(crate) async fn plug(dir: &Path, name: &str) -> Option<Self> {
        let program = peer("socat")?;
        let far = dir.join(format!("{name}-far"));
        let mut pair = Self { program, near: dir.join(name), far, socat: None };
        pair.plug_again().await;
        Some(pair)
    }

    /// The end for the program under test, or for ser2net: a link to a terminal,
    /// as udev makes them for serial adapters.
    pub(crate) fn near(&self) -> &Path {
        &self.near
    }

    /// The end for the test.
    pub(crate) fn far(&self) -> FarSide {
        FarSide::open(&self.far)
    }

    /// How whoever uses the near end has set it.
    pub(crate) fn settings(&self) -> Termios {
        tcgetattr(open_tty(&self.near)).unwrap()
    }

    /// Pulls it out: who has an end open finds it hung up, and the names are
    /// gone.
    pub(crate) async fn unplug(&mut self) {
        let mut socat = self.socat.take().expect("plugged in");
        socat.signal(Signal::TERM);
        socat.ended().await;
        for end in [&self.near, &self.far] {
            assert!(fs::symlink_metadata(end).is_err(), "socat left {}", end.display());
        }
    }

    /// Plugs new terminals in under the same names.
    pub(crate) async fn plug_again(&mut self) {
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let mut command = Command::new(&self.program);
        command.args([end(&self.near), end(&self.far)]).stdin(Stdio::null());
        let dir = self.near.parent().unwrap();
        let name = format!("{}.socat", self.near.file_name().unwrap().display());
        self.socat = Some(Background::spawn(command, dir, &name));
        // A link is made before what it leads to is raw; the second one comes last.
        until("joined terminals", || (self.near.exists() && self.far.exists()).then_some(())).await;
    }
}
