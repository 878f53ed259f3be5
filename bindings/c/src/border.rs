//! The functions that C calls, and all unsafe code of this crate.
//!
//! What a function relies on, and cannot check; its comments name them by number. NULL, misaligned pointers, sizes of structs, numbers
//! of enumerations, lengths, and buffers that overlap within a call are checked.
//!
//! 1. A pointer to a struct, a number or a handle is NULL, or points to memory that holds one, which nobody writes during the call. If
//!    it is not const, the memory may be written, and nobody else reads it, a workspace aside.
//! 2. A plan, a workspace or a choice is one that this library returned, and was not freed. To free it, no other call may use it.
//! 3. A buffer is NULL, or has as many elements as its length says, of its type. Those to be read are initialised, gaps included,
//!    and nobody writes them during the call. Those to be written may be written, and nobody else reads or writes them during the call. Of a tensor, the
//!    buffer ends with its last element for this purpose.
//! 4. A text to be read ends with a NUL. A place for a text has the bytes that its capacity says, as 3 says of a buffer.
//! 5. `execute` does what `dw_execute` says, on any thread; `context` is what it wants.
//! 6. While a plan is made, or first run by `DW_PARALLELISM_KIND_RAYON`, no other thread changes the environment: `DEPTHWISE_ISA`,
//!    `DEPTHWISE_MACHINE` and `RAYON_NUM_THREADS` are read.
//!
//! Failures and panics become a status in [`guarded`](crate::failure::guarded). No function unwinds.

mod choices;
mod given;
mod int8;
mod plans;
mod runs;
mod tensors;
mod threads;

#[cfg(test)]
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "calls, one after the other")]
mod tests;
