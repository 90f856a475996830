//! The signatures of crashes: the input from which each was computed, the revisions of the lists, re-signing
//! with other lists, and where crashes moved (ADR 15).
//!
//! ```text
//! signed          seq           -> (input, signature, revision)   input 0: too large to be kept
//! inputs          input         -> InputRow, with the numbers of its frames
//! input_uses      input         -> crashes that have it
//! input_ids       hash          -> input
//! frames          frame         -> FrameRow
//! frame_ids       hash          -> frame
//! list_revisions  revision      -> RevisionRow revision 0 means the built-in lists and has no row
//! resigns         revision      -> ResignRow
//! outdated        seq           -> ()             signed with older lists than the active ones
//! moves           (from, to)    -> crashes        old and new signature of crashes
//! moved_from      (to, from)    -> ()
//! ```
//!
//! An input is everything that the rules read of a crash, so equal crashes share one input, and programs
//! share frames. A hash only finds a candidate. The bytes are then compared, because names come from uploads.
//!
//! A revision starts its re-sign in the transaction that stores it. The re-sign goes through `signed` in
//! order. New signatures and the position of the re-sign become durable in the order in which they were sent,
//! and a crash counts as changed only when its signature changes. So after a kill some crashes are looked at
//! twice, but none is counted twice or skipped. A crash that was processed with older lists in the meantime
//! waits in `outdated`.

mod groups;
mod inputs;
mod moves;
mod resign;
mod revisions;
mod settle;

pub(crate) use super::rows::ResignRow;
pub(crate) use groups::Group;
pub(crate) use inputs::{Signed, SignedView};
pub(crate) use moves::Moves;
pub(crate) use resign::Progress;
pub use resign::Resigned;
pub use revisions::NewRevision;
pub(crate) use revisions::Revision;
