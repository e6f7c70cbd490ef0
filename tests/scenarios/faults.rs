//! What goes wrong around the router, on every data path: the connection that meets it ends soon and is counted as what
//! it is, others notice nothing, and when it is over everything works again. Faults that have modules of their own: a
//! terminator that dies, hangs or runs out of memory (`terminator_crash`, `memory_limit`), a full hand-off socket
//! (`exhaustion`), a configuration that is rubbish, empty or gone (`reload`), ends that vanish (`cut_through/deaths`).

mod backends;
mod clock;
mod handshakes;
mod scene;
