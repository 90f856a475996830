//! What other threads send to the writer.

use super::command::Queued;

pub(crate) enum Message {
    Apply(Box<dyn Queued>),
    /// The log has new reports.
    Logged {
        /// They must be stored at once, because the log is far ahead.
        is_urgent: bool,
    },
    /// A reader met an error: check whether the database must be opened again.
    Check,
    /// Hand out no more jobs.
    Pause,
    /// Forget which crashes workers have, and end.
    Close,
}

impl Message {
    pub(crate) fn payload_bytes(&self) -> u64 {
        match self {
            Self::Apply(command) => command.payload_bytes(),
            Self::Logged { .. } | Self::Check | Self::Pause | Self::Close => 0,
        }
    }

    /// Whether the batch should be applied at once.
    pub(crate) fn is_urgent(&self) -> bool {
        match self {
            Self::Apply(command) => command.is_awaited(),
            Self::Logged { is_urgent } => *is_urgent,
            Self::Check | Self::Pause | Self::Close => true,
        }
    }

    /// Seq and attempt of the job that a worker gives back.
    pub(crate) fn returns_job(&self) -> Option<(u64, u32)> {
        match self {
            Self::Apply(command) => command.returns_job(),
            Self::Logged { .. } | Self::Check | Self::Pause | Self::Close => None,
        }
    }
}
