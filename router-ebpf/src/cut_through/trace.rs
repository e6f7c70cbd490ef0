//! What a build with the feature `log` tells of each TCP packet over IPv4; in every other build there is nothing of this.

#[cfg(feature = "log")]
pub(super) use self::told::{outcome, packet};

/// The committed object's.
#[cfg(not(feature = "log"))]
mod silent {
    use aya_ebpf::programs::TcContext;

    #[inline(always)]
    pub(in super::super) fn packet(_: &TcContext, _: &'static str) {}

    #[inline(always)]
    pub(in super::super) fn outcome(_: &TcContext, _: i32) {}
}
#[cfg(not(feature = "log"))]
pub(super) use self::silent::{outcome, packet};

#[cfg(feature = "log")]
mod told {
    use aya_ebpf::programs::TcContext;
    use aya_log_ebpf::debug;

    use super::super::{DROP, PASS};

    /// The packet as it is now.
    #[inline(always)]
    pub(in super::super) fn packet(context: &TcContext, event: &'static str) {
        let _ = line(context, event);
    }

    /// What becomes of it.
    #[inline(always)]
    pub(in super::super) fn outcome(context: &TcContext, action: i32) {
        match action {
            PASS => debug!(context, "  for the local stack"),
            DROP => debug!(context, "  dropped"),
            // Redirected, and translated by now.
            _ => packet(context, "  sent on"),
        }
    }

    /// Ethernet, IPv4 without options, TCP.
    #[inline(always)]
    fn line(context: &TcContext, event: &'static str) -> Result<(), i64> {
        if context.load::<u16>(12)? != 0x0800_u16.to_be() || context.load::<u8>(23)? != super::super::headers::TCP {
            return Ok(());
        }
        let (source, destination) = (u32::from_be(context.load(26)?), u32::from_be(context.load(30)?));
        let (from, to) = (u16::from_be(context.load(34)?), u16::from_be(context.load(36)?));
        let (sequence, acknowledgement) = (u32::from_be(context.load(38)?), u32::from_be(context.load(42)?));
        let flags: u8 = context.load(47)?;
        debug!(
            context,
            "{} {:i}:{} > {:i}:{} flags {:x} seq {} ack {}, {} bytes",
            event,
            source,
            from,
            destination,
            to,
            flags,
            sequence,
            acknowledgement,
            context.len()
        );
        Ok(())
    }
}
