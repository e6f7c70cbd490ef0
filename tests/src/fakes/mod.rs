//! Backends on real sockets, one thread per connection; each file is one kind of backend.

mod bulk;
mod echo;
mod identity;
mod plain_http;
mod recorder;
mod resetting;
mod server;
mod shop_window;

pub use bulk::{Bulk, Turn};
pub use echo::Echo;
pub use identity::IdentityBackend;
pub use plain_http::PlainHttp;
pub use recorder::Recorder;
pub use resetting::Resetting;
pub use server::Server;
pub use shop_window::{Look, ShopWindow};
