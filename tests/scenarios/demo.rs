//! The first thing that a newcomer sees: what it prints is true, and can be pasted.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::binaries::sni_router;
use tests::client_tools::{Tool, require};
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::processes::{Pid, descendants, is_running};
use tests::router_process::send_signal;
use tests::scratch::Scratch;

#[test]
fn the_curl_commands_work_as_they_are_printed_and_ctrl_c_ends_everything() {
    if require(Tool::Curl, "the demo's commands").unwrap().is_none() {
        return;
    }
    // The demo starts the router beside it, which has to be as fresh as the demo.
    sni_router().unwrap();
    let scratch = Scratch::new().unwrap();
    let screen = scratch.join("screen");
    let (listen, admin) = (free_address().unwrap(), free_address().unwrap());
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--listen", &listen.to_string(), "--admin", &admin.to_string(), "--folder"])
        .arg(scratch.join("demo"))
        .stdin(Stdio::null())
        .stdout(File::create(&screen).unwrap())
        .spawn()
        .unwrap();
    let pid = Pid::try_from(demo.id()).unwrap();
    let shown = eventually(PATIENCE, "the demo is up", || {
        let mut text = String::new();
        File::open(&screen).unwrap().read_to_string(&mut text).unwrap();
        assert!(demo.try_wait().unwrap().is_none(), "the demo ended: {text}");
        text.contains("Ctrl-C").then_some(text)
    })
    .unwrap();
    let answers: Vec<String> = commands(&shown).iter().map(|command| run(command)).collect();
    assert_eq!(answers.len(), 3, "{shown}");
    assert!(answers[0].contains(r#""commonName":"demo-client""#), "{answers:?}");
    assert!(answers[1].contains(r#""backend":"acme""#), "{answers:?}");
    assert!(answers[2].contains("sni_router_connections_total"), "{answers:?}");

    let processes = descendants(pid);
    assert!(processes.len() >= 3, "{processes:?}");
    send_signal(pid, Signal::SIGINT).unwrap();
    let status = eventually(PATIENCE, "the demo ends", || demo.try_wait().unwrap()).unwrap();
    assert!(status.success(), "{status}");
    let gone = || processes.iter().all(|pid| !is_running(*pid)).then_some(());
    eventually(Duration::from_secs(1), "its processes are gone", gone).unwrap();
}

#[test]
fn a_port_in_use_is_named_together_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).args(["--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains(&address) && complaint.contains("--listen"), "{complaint}");
}

/// The printed commands, each from its `curl` to the end of its last continued line.
fn commands(screen: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut continued = false;
    for line in screen.lines() {
        if line.trim_start().starts_with("curl ") {
            commands.push(String::new());
            continued = true;
        }
        if let (true, Some(command)) = (continued, commands.last_mut()) {
            command.push_str(line);
            command.push('\n');
            continued = line.ends_with('\\');
        }
    }
    commands
}

fn run(command: &str) -> String {
    let done = Command::new("sh").arg("-c").arg(command).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
