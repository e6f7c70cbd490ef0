//! Name resolution, from the file to the model.

use super::context::Context;
use crate::address::ServerAddress;
use crate::duration::Span;
use crate::file::{ConfigFile, MAX_TTL, MIN_TTL, MOST_SERVERS};
use crate::model::Resolver;
use crate::text::Text;

/// The field `resolver`.
pub(super) fn resolver(context: &Context<'_>, file: &ConfigFile) -> Option<Resolver> {
    let default = Resolver { servers: Vec::new(), min_ttl: MIN_TTL.0.duration(), max_ttl: MAX_TTL.0.duration() };
    context.group(&file.resolver, "resolver", default, |context, file| {
        let servers = context.list(&file.servers, "servers", |_, server: &Text<ServerAddress>| Some(server.0.0));
        let min_ttl = context.duration(&file.min_ttl, "minTtl", MIN_TTL, SHORTEST_TTL..=LONGEST_TTL);
        let max_ttl = context.duration(&file.max_ttl, "maxTtl", MAX_TTL, SHORTEST_TTL..=LONGEST_TTL);
        let (servers, min_ttl, max_ttl) = (servers?, min_ttl?, max_ttl?);
        if servers.len() > MOST_SERVERS {
            let message = format!("has {} elements, and must have at most {MOST_SERVERS}", servers.len());
            context.error(&file.servers, "servers", message);
        }
        if max_ttl < min_ttl {
            let field = if file.max_ttl.is_missing() { "minTtl" } else { "maxTtl" };
            let at = if file.max_ttl.is_missing() { file.min_ttl.at() } else { file.max_ttl.at() };
            context.report.error(at, &context.path.field(field), "leaves maxTtl below minTtl");
        }
        Some(Resolver { servers, min_ttl, max_ttl })
    })
}

const SHORTEST_TTL: Span = Span::millis(10);
const LONGEST_TTL: Span = Span::hours(24);
