//! What the benches share, and what the roofline report rests on, for the tests and for `benches/peers`.

pub mod command;
pub mod cores;
pub mod crew;
pub mod machine;
pub mod measure;
pub mod record;
pub mod regret;
pub mod report;
pub mod roof;
