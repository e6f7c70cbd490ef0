//! The cases of four model systems from end to end, with the clients and servers that they have.

mod kong;
mod pingora;
mod pinniped;
mod virtrigaud;
