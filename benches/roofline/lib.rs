//! What the roofline report rests on, for its test and for `benches/peers`.

pub mod cores;
pub mod record;
pub mod report;
pub mod roof;
