//! Scenarios over loopback sockets.

mod both_streams;
mod fixture;
mod half_close;
mod interruptions;
mod pressure;
mod resets;
mod stream;
mod suspension;
mod transfer;
