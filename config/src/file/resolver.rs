//! Name resolution as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::ServerAddress;
use crate::duration::Span;
use crate::field::Field;
use crate::text::Text;

/// How the names of backends become addresses. /etc/hosts comes first; search list and options are those of
/// /etc/resolv.conf. A change of either file is noticed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Resolver")]
pub(crate) struct ResolverFile {
    /// DNS servers, asked by UDP and, where an answer is too long for that, by TCP. Default: those of /etc/resolv.conf.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub(crate) servers: Field<Vec<Field<Text<ServerAddress>>>>,
    /// An answer is used for at least so long, whatever its TTL.
    #[serde(default)]
    #[schemars(extend("default" = MIN_TTL))]
    pub(crate) min_ttl: Field<Text<Span>>,
    /// An answer is asked for again after so long, whatever its TTL.
    #[serde(default)]
    #[schemars(extend("default" = MAX_TTL))]
    pub(crate) max_ttl: Field<Text<Span>>,
}

/// A name whose answers have a TTL of 0 is asked for once a second.
pub(crate) const MIN_TTL: Text<Span> = Text(Span::seconds(1));
/// Nobody waits longer than this for a change that came with too long a TTL.
pub(crate) const MAX_TTL: Text<Span> = Text(Span::minutes(5));
/// More servers than any resolv.conf has (MAXNS is 3, resolv.conf(5)).
pub(crate) const MOST_SERVERS: usize = 8;
