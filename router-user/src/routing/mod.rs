//! Where a connection goes: pure decisions over the configuration and what the hello said. No sockets, no clocks.

mod decision;
mod filter;
mod route_table;

pub use decision::{Decision, Question, Refusal, Routing, Rule};
pub use filter::admits;
pub use route_table::{Match, RouteTable};
