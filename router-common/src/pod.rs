//! Lets aya copy the types of the contract as bytes. The only unsafe code of this crate.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait; see the SAFETY comments")]

use crate::cut_through::{Event, Flow, FlowKey, Note, Sighting};
use crate::steer::{DeniedKey, Destination, PortKey, PrefixKey};

// SAFETY: repr(C) of integers and arrays of them, valid for every bit pattern, and without padding, which the size
// tests of the module prove.
unsafe impl aya::Pod for PrefixKey {}
// SAFETY: as above.
unsafe impl aya::Pod for PortKey {}
// SAFETY: as above.
unsafe impl aya::Pod for DeniedKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Destination {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Sighting {}
// SAFETY: as above.
unsafe impl aya::Pod for Flow {}
// SAFETY: as above.
unsafe impl aya::Pod for Event {}
// SAFETY: as above.
unsafe impl aya::Pod for Note {}
