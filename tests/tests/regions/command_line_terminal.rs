//! The command line on a terminal: what is being typed, and what is not shown.

use crate::PROGRAM;
use client::{Client, Config, EntryBody, Event, Events, From};
use lab::Lab;
use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::Stdio,
    sync::{Arc, Mutex},
};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    session::user,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use types::DeviceId;

/// A terminal that somebody sits at.
struct Terminal {
    keyboard: File,
    program: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open() -> Self {
        let size = Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a terminal");
        let keyboard = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, seen) = (keyboard.try_clone().expect("a second handle"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut some = [0; 4_096];
            while let Ok(count @ 1..) = screen.read(&mut some) {
                seen.lock().expect("nobody panics").extend_from_slice(&some[..count]);
            }
        });
        Self { keyboard, program: slave, shown }
    }

    fn run(&self, lab: &Lab, region: &str, args: &[&str]) -> Child {
        let side = || Stdio::from(self.program.try_clone().expect("a handle"));
        Command::new(PROGRAM)
            .args(args)
            .args(["--edge", &lab.edge(region).expect("a region")])
            .env_remove("HEARTH_PASSWORD")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .kill_on_drop(true)
            .spawn()
            .expect("starts")
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    fn has_shown(&self, text: &str) -> bool {
        let shown = self.shown.lock().expect("nobody panics");
        String::from_utf8_lossy(&shown).contains(text)
    }

    async fn shows(&self, text: &str) {
        eventually("it is shown", patience(), async || {
            let shown = String::from_utf8_lossy(&self.shown.lock().expect("nobody panics")).into_owned();
            anyhow::ensure!(shown.contains(text), "{text:?} is not in {shown:?}");
            Ok(())
        })
        .await;
    }

    /// Whether it shows by itself what is typed.
    fn echoes(&self) -> bool {
        tcgetattr(&self.program).expect("a terminal").local_flags.contains(LocalFlags::ECHO)
    }
}

async fn until<T>(what: &str, events: &mut Events, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = wanted(events.next().await.expect("the client lives")) {
                return found;
            }
        }
    };
    timeout(patience(), waiting).await.unwrap_or_else(|_| panic!("never: {what}"))
}

async fn ends(mut child: Child) -> bool {
    timeout(patience(), child.wait()).await.expect("ends in time").expect("ends").success()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_types_is_seen_to_type_and_a_password_is_not_shown() {
    let [near, far, _] = REGIONS;
    let lab = start(options(PROGRAM)).await;
    let edge = lab.edge(far).expect("a region");
    let ben = Client::connect(Config::new([edge], user("ben"), DeviceId::new(1))).expect("good settings");
    let mut events = ben.events().await;
    ben.open_direct(&user("ann")).await.expect("opens").follow(From::Start).await;

    let mut terminal = Terminal::open();
    let chat = terminal.run(&lab, near, &["chat", "--as", "ann", "--with", "ben"]);
    terminal.shows("you chat with ben as ann").await;
    terminal.types("hallo");
    let typing = |event| matches!(event, Event::Typing { .. }).then_some(());
    until("ann is typing", &mut events, typing).await;
    terminal.types("\x7f\x7f\x7f\x7fello, ben\r");
    let said = until("ann says", &mut events, |event| match event {
        Event::Entry { entry, .. } => match entry.body {
            EntryBody::Message(body) => Some(body),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(said.await, "hello, ben");
    terminal.shows("ann: hello, ben ✓✓ [2]").await;
    assert!(!terminal.echoes(), "what is typed is shown once");
    terminal.types("\x04");
    assert!(ends(chat).await);
    assert!(terminal.echoes(), "the terminal is as it was");

    let chat = terminal.run(&lab, near, &["chat", "--as", "ann"]);
    terminal.shows("no chat is open").await;
    eventually("the program has the terminal", patience(), async || {
        anyhow::ensure!(!terminal.echoes());
        Ok(())
    })
    .await;
    let id = chat.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
    kill(Pid::from_raw(id), Signal::SIGINT).expect("is told to end");
    assert!(!ends(chat).await);
    assert!(terminal.echoes(), "the terminal is as it was, however it ends");

    let file = lab.dir().join("cem");
    let file = file.to_str().expect("text");
    let register = terminal.run(&lab, near, &["register", "--username", "cem", "--credentials", file]);
    terminal.shows("your password").await;
    terminal.types("correct horse\r");
    assert!(ends(register).await);
    terminal.shows("logged in as").await;
    assert!(terminal.echoes() && !terminal.has_shown("horse"));
    lab.stop().await.expect("stops");
}
