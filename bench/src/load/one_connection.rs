//! The measures that have one connection at a time: download, ping-pong, time to the first byte. Blocking, because
//! nothing answers sooner.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Tally, Window};
use crate::backend::ANSWER;
use crate::target::{BUFFER_BYTES, Target};

/// Reads from one connection as fast as it can.
pub(super) fn download(target: &Arc<Target>, window: &Arc<Window>) -> Result<Tally> {
    let mut buffer = vec![0; BUFFER_BYTES];
    until_closed(window, |tally| {
        let mut connection = target.connect()?;
        while !window.is_closed() {
            let read = connection.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if window.is_open() {
                tally.amount += read as u64;
            }
        }
        Ok(())
    })
}

/// One message at a time on one connection.
pub(super) fn ping_pong(target: &Arc<Target>, window: &Arc<Window>) -> Result<Tally> {
    let mut message = [b'p'; MESSAGE_BYTES];
    until_closed(window, |tally| {
        let mut connection = target.connect()?;
        while !window.is_closed() {
            let start = Instant::now();
            connection.write_all(&message)?;
            connection.flush()?;
            connection.read_exact(&mut message)?;
            if window.is_open() {
                tally.amount += 1;
                tally.latencies.push(start.elapsed());
            }
        }
        Ok(())
    })
}

/// One connection after the other.
pub(super) fn first_byte(target: &Arc<Target>, window: &Arc<Window>) -> Result<Tally> {
    let mut answer = Vec::with_capacity(ANSWER.len());
    until_closed(window, |tally| {
        while !window.is_closed() {
            let start = Instant::now();
            let mut connection = target.connect()?;
            connection.read_exact(&mut [0])?;
            let elapsed = start.elapsed();
            answer.clear();
            match connection.read_to_end(&mut answer) {
                // Not every TLS server says close_notify before its FIN.
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                _ if answer.len() + 1 != ANSWER.len() => return Err(io::Error::other("not the answer")),
                _ if window.is_open() => {
                    tally.amount += 1;
                    tally.latencies.push(elapsed);
                }
                _ => {}
            }
        }
        Ok(())
    })
}

/// Starts again after an error, so that one lost connection does not void the whole time.
fn until_closed(window: &Window, mut load: impl FnMut(&mut Tally) -> io::Result<()>) -> Result<Tally> {
    let mut tally = Tally::default();
    while let Err(error) = load(&mut tally) {
        tally.failed(&error);
        if window.is_closed() {
            break;
        }
        thread::sleep(ERROR_PAUSE);
    }
    Ok(tally)
}

/// Of a ping-pong.
pub(super) const MESSAGE_BYTES: usize = 512;
/// Keeps a router that ends every connection from filling the window with attempts.
pub(super) const ERROR_PAUSE: Duration = Duration::from_millis(10);
