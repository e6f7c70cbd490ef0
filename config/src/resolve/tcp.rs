//! The sockets of a tenant's connections, from the file to the model.

use super::context::Context;
use crate::duration::Span;
use crate::field::Field;
use crate::file::{KEEPALIVE_AFTER, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, KeepaliveFile, TcpFile};
use crate::tcp::{Keepalive, TcpSettings};
use crate::text::Text;

pub(super) fn tcp(context: &Context<'_>, field: &Field<TcpFile>) -> Option<TcpSettings> {
    context.group(field, "tcp", TcpSettings::default(), |context, file| {
        let keepalive = context.group(&file.keepalive, "keepalive", None, |context, file| keepalive(&context, file));
        let user_timeout = match file.user_timeout.is_missing() {
            true => Some(None),
            false => {
                let longest = Text(LONGEST_USER_TIMEOUT);
                context.duration(&file.user_timeout, "userTimeout", longest, SHORTEST..=LONGEST_USER_TIMEOUT).map(Some)
            }
        };
        Some(TcpSettings { keepalive: keepalive?, user_timeout: user_timeout? })
    })
}

fn keepalive(context: &Context<'_>, file: &KeepaliveFile) -> Option<Option<Keepalive>> {
    let seconds = |field: &Field<Text<Span>>, name, default| {
        let span = context.duration(field, name, default, SHORTEST..=LONGEST_KEEPALIVE)?;
        if span.subsec_nanos() != 0 {
            context.error(field, name, "must be in whole seconds: the kernel counts no others");
            return None;
        }
        Some(span)
    };
    let after = seconds(&file.after, "after", KEEPALIVE_AFTER);
    let interval = seconds(&file.interval, "interval", KEEPALIVE_INTERVAL);
    let probes = context.number(&file.probes, "probes", KEEPALIVE_PROBES, 1..=MOST_PROBES);
    Some(Some(Keepalive { after: after?, interval: interval?, probes: u8::try_from(probes?).ok()? }))
}

const SHORTEST: Span = Span::seconds(1);
/// MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL (include/net/tcp.h).
const LONGEST_KEEPALIVE: Span = Span::seconds(32767);
/// Beyond this the connection's end is better left to `idleTimeout`.
const LONGEST_USER_TIMEOUT: Span = Span::hours(24);
/// MAX_TCP_KEEPCNT (include/net/tcp.h).
const MOST_PROBES: u32 = 127;
