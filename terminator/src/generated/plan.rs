//! What of a tenant's generated CA and certificate is due. Pure: the moment is an argument.

use crate::certificates::Moment;

/// The validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) not_before: Moment,
    pub(super) not_after: Moment,
}

impl Life {
    /// From a little before now, for clients whose clocks are behind, for so long, and never beyond `limit`.
    pub(super) fn beginning(now: Moment, seconds: i64, limit: Option<Moment>) -> Self {
        let not_after = Moment(now.0 + seconds);
        let not_after = limit.map_or(not_after, |limit| not_after.min(limit));
        Self { not_before: Moment(now.0 - CLOCKS_DIFFER_BY), not_after }
    }

    fn is_over(self, now: Moment) -> bool {
        self.not_after < now
    }

    fn left(self, now: Moment) -> i64 {
        self.not_after.0 - now.0
    }

    /// A clock that is behind the begin says nothing about how old the certificate is.
    fn is_half_over(self, now: Moment) -> bool {
        self.left(now) < (self.not_after.0 - self.not_before.0) / 2
    }
}

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The CA that signs.
    pub(super) authority: Option<Life>,
    /// The CA that will sign, and that clients learn to trust meanwhile.
    pub(super) next: Option<Life>,
    /// The certificate, where the CA that signs has signed it and where it covers all names.
    pub(super) certificate: Option<Life>,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The next CA becomes the one that signs.
    pub(super) promotion: bool,
    /// A CA is made that signs at once.
    pub(super) authority: bool,
    /// A CA is made that will sign.
    pub(super) next: bool,
    /// A certificate is made.
    pub(super) certificate: bool,
}

impl Due {
    /// Whether nothing is.
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// A CA that replaces another is advertised for [`OVERLAP`] before anything is signed with it, so that clients that look
/// at what is advertised once in a while never meet a certificate that they do not trust.
pub(super) fn due(kept: Kept, now: Moment) -> Due {
    let authority = kept.authority.filter(|life| !life.is_over(now));
    let next = kept.next.filter(|life| !life.is_over(now));
    let certificate_is_due = authority.is_none() || kept.certificate.is_none_or(|life| life.is_half_over(now));
    let next_is_known = next.is_some_and(|life| now.0 - life.not_before.0 >= OVERLAP);
    let promotion = next.is_some() && (authority.is_none() || (certificate_is_due && next_is_known));
    Due {
        promotion,
        authority: authority.is_none() && next.is_none(),
        next: next.is_none() && authority.is_some_and(|life| life.left(now) < NEXT_AUTHORITY_AT),
        certificate: certificate_is_due,
    }
}

/// Ten years: whoever trusts a CA of his own does so by hand.
pub(super) const AUTHORITY_LIFE: i64 = 3650 * DAY;
/// Made anew when half of it is over.
pub(super) const CERTIFICATE_LIFE: i64 = 90 * DAY;
/// How long before a CA's end the next one is made; longer than a certificate and the overlap last.
const NEXT_AUTHORITY_AT: i64 = 365 * DAY;
const OVERLAP: i64 = 30 * DAY;
const CLOCKS_DIFFER_BY: i64 = 60 * 60;
const DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Due = Due { promotion: false, authority: false, next: false, certificate: false };

    fn life(from: i64, to: i64) -> Option<Life> {
        Some(Life { not_before: Moment(from * DAY), not_after: Moment(to * DAY) })
    }

    fn at(day: i64, authority: Option<Life>, next: Option<Life>, certificate: Option<Life>) -> Due {
        due(Kept { authority, next, certificate }, Moment(day * DAY))
    }

    #[test]
    fn without_anything_both_are_made() {
        assert_eq!(at(0, None, None, None), Due { authority: true, certificate: true, ..NOTHING });
    }

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_by_the_same_authority() {
        let authority = life(0, 3650);
        assert_eq!(at(44, authority, None, life(0, 90)), NOTHING);
        assert_eq!(at(46, authority, None, life(0, 90)), Due { certificate: true, ..NOTHING });
        assert_eq!(at(1, authority, None, None), Due { certificate: true, ..NOTHING });
    }

    #[test]
    fn the_next_authority_is_advertised_for_a_month_before_it_signs() {
        let authority = life(0, 3650);
        let fresh = life(3250, 3340);
        assert_eq!(at(3284, authority, None, fresh), NOTHING);
        assert_eq!(at(3286, authority, None, fresh), Due { next: true, ..NOTHING });
        let next = life(3286, 6936);
        assert_eq!(at(3300, authority, next, fresh), Due { certificate: true, ..NOTHING });
        assert_eq!(at(3300, authority, next, life(3290, 3380)), NOTHING);
        assert_eq!(at(3340, authority, next, life(3290, 3380)), Due { promotion: true, certificate: true, ..NOTHING });
    }

    #[test]
    fn an_authority_that_is_over_is_replaced_at_once() {
        let over = life(0, 3650);
        assert_eq!(at(3651, over, None, life(3600, 3690)), Due { authority: true, certificate: true, ..NOTHING });
        let next = life(3640, 7290);
        assert_eq!(at(3651, over, next, life(3600, 3690)), Due { promotion: true, certificate: true, ..NOTHING });
    }

    #[test]
    fn a_clock_that_is_behind_replaces_nothing() {
        assert_eq!(at(-9000, life(0, 3650), None, life(0, 90)), NOTHING);
    }

    #[test]
    fn a_certificate_never_outlives_its_authority() {
        let life = Life::beginning(Moment(0), CERTIFICATE_LIFE, Some(Moment(10)));
        assert_eq!((life.not_before, life.not_after), (Moment(-3600), Moment(10)));
    }
}
