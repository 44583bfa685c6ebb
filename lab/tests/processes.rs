//! Children: started, signalled by pid, watched.

use lab::process::{Process, ProcessError, Spec, State};
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn shell(folder: &tempfile::TempDir, name: &str, script: &str) -> Process {
    Process::new(Spec {
        name: name.to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("GREETING".to_owned(), "hello".to_owned())],
        log: folder.path().join(format!("{name}.log")),
    })
}

fn kernel_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

async fn until_kernel_says(pid: u32, wanted: char) {
    let says = async {
        while kernel_state(pid) != Some(wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, says).await.unwrap_or_else(|_| panic!("pid {pid} is {:?}", kernel_state(pid)));
}

#[tokio::test]
async fn a_process_is_started_paused_resumed_killed_and_started_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = shell(&folder, "sleeper", "exec sleep 600");
    process.start().await.expect("it starts");
    let pid = process.state().pid().expect("a pid");
    assert!(matches!(process.start().await, Err(ProcessError::Running { pid: p, .. }) if p == pid));
    process.pause().await.expect("it pauses");
    assert_eq!(process.state(), State::Paused { pid });
    until_kernel_says(pid, 'T').await;
    process.resume().await.expect("it goes on");
    until_kernel_says(pid, 'S').await;
    process.kill().await.expect("it dies");
    assert!(matches!(process.state(), State::Stopped { expected: true, .. }));
    assert!(matches!(process.pause().await, Err(ProcessError::NotRunning(name)) if name == "sleeper"));
    process.start().await.expect("it starts again");
    assert_ne!(process.state().pid().expect("a pid"), pid);
}

#[tokio::test]
async fn an_end_of_its_own_is_noticed_and_its_output_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = shell(&folder, "greeter", "echo $GREETING; exit 3");
    let mut state = process.watch();
    process.start().await.expect("it starts");
    let ended = timeout(
        PATIENCE,
        state.wait_for(|state| matches!(state, State::Stopped { status: Some(_), expected: false })),
    );
    let State::Stopped { status: Some(status), .. } =
        ended.await.expect("in time").expect("it is watched").clone()
    else {
        panic!("it has ended")
    };
    assert_eq!(status.code(), Some(3));
    let log = std::fs::read_to_string(folder.path().join("greeter.log")).expect("a log");
    assert_eq!(log, "hello\n");
}

#[tokio::test]
async fn one_that_does_not_listen_is_stopped_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = shell(&folder, "deaf", "trap '' TERM; echo on; while :; do sleep 0.05; done");
    process.start().await.expect("it starts");
    let log = folder.path().join("deaf.log");
    let listening = async {
        while std::fs::read_to_string(&log).map_or(0, |text| text.len()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, listening).await.expect("it runs");
    process.stop(Duration::from_millis(100)).await.expect("it ends");
    process.stop(Duration::from_millis(100)).await.expect("one that has ended is stopped");
}

#[tokio::test]
async fn a_dropped_process_takes_its_child_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = shell(&folder, "orphan", "exec sleep 600");
    process.start().await.expect("it starts");
    let pid = process.state().pid().expect("a pid");
    drop(process);
    let gone = async {
        while !matches!(kernel_state(pid), None | Some('Z')) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is gone");
}

#[tokio::test]
async fn a_missing_binary_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::new(Spec {
        name: "ghost".to_owned(),
        program: "/no/such/binary".into(),
        args: Vec::new(),
        env: Vec::new(),
        log: folder.path().join("ghost.log"),
    });
    let error = process.start().await.expect_err("it cannot start").to_string();
    assert!(error.contains("ghost") && error.contains("/no/such/binary"), "{error}");
}
