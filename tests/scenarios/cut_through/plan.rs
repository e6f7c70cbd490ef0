//! What the ends of a connection do: the client tells the backend in the bytes behind the hello, and both follow it to the
//! last byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tests::hello::Hello;
use tests::patience::PATIENCE;
use tests::pattern::Pattern;

/// What a connection does after the hello; the client tells the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Both send at the same time, then both end.
    Together = 1,
    /// The client sends and ends, then the backend does.
    ClientFirst = 2,
    /// The backend sends and ends, then the client does.
    BackendFirst = 3,
    /// The client resets when it has got the backend's bytes; the backend waits for that.
    ClientResets = 4,
    /// The backend resets when it has got the client's bytes; the client waits for that.
    BackendResets = 5,
    /// Like `Together`, but each end reads nothing until all that fits into buffers and windows is full.
    BothStall = 6,
}

/// One connection's plan, which is sent as its first bytes behind the hello.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) turn: Turn,
    pub(super) client_to_backend: u64,
    pub(super) backend_to_client: u64,
}

/// The client's end of a plan.
pub(super) fn client(to: SocketAddr, name: &str, plan: Plan) -> io::Result<()> {
    client_with_pause(to, name, plan, || ())
}

/// The same, with something to do between the plan and what it says.
pub(super) fn client_with_pause(to: SocketAddr, name: &str, plan: Plan, pause: impl FnOnce()) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    limit(&stream)?;
    stream.set_nodelay(true)?;
    stream.write_all(&hello(name).records())?;
    stream.write_all(&plan.encode())?;
    pause();
    client_after_hello(&stream, plan)
}

/// As every client sends it.
pub(super) fn hello(name: &str) -> Hello {
    Hello::named(name).offering(&PROTOCOLS)
}

/// The rest of it.
pub(super) fn client_after_hello(stream: &TcpStream, plan: Plan) -> io::Result<()> {
    let (up, down) = plan.patterns();
    let send = || up.send(&mut &*stream, plan.client_to_backend).and_then(|()| stream.shutdown(Shutdown::Write));
    let receive = || down.receive(&mut &*stream, plan.backend_to_client);
    match plan.turn {
        Turn::Together | Turn::BothStall => together(stream, plan.turn, send, receive),
        Turn::ClientFirst => send().and_then(|()| receive()).and_then(|()| expect_end(stream)),
        Turn::BackendFirst => receive().and_then(|()| expect_end(stream)).and_then(|()| send()),
        Turn::ClientResets => {
            up.send(&mut &*stream, plan.client_to_backend)?;
            receive()?;
            SockRef::from(stream).set_linger(Some(Duration::ZERO))
        }
        Turn::BackendResets => {
            up.send(&mut &*stream, plan.client_to_backend)?;
            expect_reset(stream)
        }
    }
}

/// The backend's end of a plan.
pub(super) fn backend(stream: &TcpStream) -> io::Result<()> {
    limit(stream)?;
    let mut header = [0; 5];
    (&*stream).read_exact(&mut header)?;
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    (&*stream).read_exact(&mut hello)?;
    let mut plan = [0; PLAN];
    (&*stream).read_exact(&mut plan)?;
    let plan = Plan::decode(&plan)?;
    let (up, down) = plan.patterns();
    let send = || down.send(&mut &*stream, plan.backend_to_client).and_then(|()| stream.shutdown(Shutdown::Write));
    let receive = || up.receive(&mut &*stream, plan.client_to_backend);
    let result = match plan.turn {
        Turn::Together | Turn::BothStall => together(stream, plan.turn, send, receive),
        Turn::ClientFirst => receive().and_then(|()| expect_end(stream)).and_then(|()| send()),
        Turn::BackendFirst => send().and_then(|()| receive()).and_then(|()| expect_end(stream)),
        Turn::ClientResets => {
            receive()?;
            down.send(&mut &*stream, plan.backend_to_client)?;
            expect_reset(stream)
        }
        Turn::BackendResets => {
            receive()?;
            SockRef::from(stream).set_linger(Some(Duration::ZERO))
        }
    };
    result.map_err(|error| io::Error::new(error.kind(), format!("{plan:?}: {error}")))
}

fn together(
    stream: &TcpStream,
    turn: Turn,
    send: impl FnOnce() -> io::Result<()> + Send,
    receive: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(send);
        if turn == Turn::BothStall {
            // The stall is what is tested: longer than several persist timer probes of the sender.
            thread::sleep(STALL);
        }
        receive()?;
        expect_end(stream)?;
        sending.join().unwrap()
    })
}

fn expect_end(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1])? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "bytes behind the end")),
    }
}

pub(super) fn expect_reset(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1]) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        other => Err(io::Error::other(format!("expected a reset: {other:?}"))),
    }
}

impl Plan {
    fn patterns(&self) -> (Pattern, Pattern) {
        (Pattern::new(self.number * 2), Pattern::new(self.number * 2 + 1))
    }

    /// Sends the client's bytes.
    pub(super) fn send_as_client(self, mut stream: &TcpStream) -> io::Result<()> {
        self.patterns().0.send(&mut stream, self.client_to_backend)
    }

    /// What follows them where the client is first.
    pub(super) fn finish_as_client(self, mut stream: &TcpStream) -> io::Result<()> {
        stream.shutdown(Shutdown::Write)?;
        self.patterns().1.receive(&mut stream, self.backend_to_client)?;
        expect_end(stream)
    }

    pub(super) fn encode(&self) -> [u8; PLAN] {
        let mut bytes = [0; PLAN];
        bytes[0] = self.turn as u8;
        for (place, number) in [self.number, self.client_to_backend, self.backend_to_client].iter().enumerate() {
            bytes[1 + place * 8..9 + place * 8].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; PLAN]) -> io::Result<Self> {
        let turns = [
            Turn::Together,
            Turn::ClientFirst,
            Turn::BackendFirst,
            Turn::ClientResets,
            Turn::BackendResets,
            Turn::BothStall,
        ];
        let turn = turns.into_iter().find(|turn| *turn as u8 == bytes[0]);
        let number = |place: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[1 + place * 8..9 + place * 8]);
            u64::from_be_bytes(number)
        };
        Ok(Self {
            turn: turn.ok_or(io::Error::other(format!("no plan: {bytes:?}")))?,
            number: number(0),
            client_to_backend: number(1),
            backend_to_client: number(2),
        })
    }
}

/// Reads and writes fail after a generous time instead of hanging a test.
pub(super) fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

pub(super) const PLAN: usize = 25;
pub(super) const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];
const STALL: Duration = Duration::from_secs(5);
