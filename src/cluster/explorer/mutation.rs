//! What goes wrong, and ways to break the protocol. The explorer must find each: a search that finds nothing anywhere proves nothing.

/// What happens to the nodes and to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is stopped for a while, as by SIGSTOP.
    Stop,
    /// It is killed and started anew.
    Restart,
    /// It does not reach Kafka for a while.
    Cut,
    BrokerDown,
    /// The group takes the partition from its owner.
    Rebalance,
    /// A node is started with the static identity of another that runs, and stopped soon after.
    SameIdentity,
    /// A node's fetches bring nothing for a while.
    Lag,
    /// A node hands over and leaves.
    Leave,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Stop,
        Self::Restart,
        Self::Cut,
        Self::BrokerDown,
        Self::Rebalance,
        Self::SameIdentity,
        Self::Lag,
        Self::Leave,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Reads are answered whether or not the lease still holds.
    ReadWithoutLease,
    /// The lease is counted from the answer to a commit, not from when it was sent.
    LeaseFromAnswer,
    /// A lease that lapsed is renewed without a new claim.
    RenewLapsed,
    /// A new owner waits neither for the release of the one before nor for its lease.
    ServeAtOnce,
    /// Another's claim changes nothing.
    IgnoreOthersClaims,
    /// A record is acknowledged whoever owned the partition when it was appended.
    AcknowledgeAnyway,
    /// An owner that never served releases.
    ReleaseWithoutServing,
    /// A command takes effect whatever its epoch.
    IgnoreEpochs,
    /// A slot is granted before the log has decided.
    GrantBeforeLog,
    /// A snapshot replaces any other.
    SnapshotAnyway,
    /// The lease is measured by a clock that stands still while the process is stopped.
    ClockStopsWithProcess,
}

impl Mutation {
    pub const ALL: [Self; 11] = [
        Self::ReadWithoutLease,
        Self::LeaseFromAnswer,
        Self::RenewLapsed,
        Self::ServeAtOnce,
        Self::IgnoreOthersClaims,
        Self::AcknowledgeAnyway,
        Self::ReleaseWithoutServing,
        Self::IgnoreEpochs,
        Self::GrantBeforeLog,
        Self::SnapshotAnyway,
        Self::ClockStopsWithProcess,
    ];

    /// Faults that show it; runs with it have more of them.
    pub fn shown_by(self) -> &'static [Fault] {
        use Fault::{Cut, Lag, SameIdentity, Stop};
        match self {
            Self::ReadWithoutLease | Self::RenewLapsed => &[Cut, Lag, SameIdentity],
            Self::LeaseFromAnswer | Self::ServeAtOnce => &[Lag, SameIdentity],
            Self::ReleaseWithoutServing => &[Lag, SameIdentity],
            Self::IgnoreOthersClaims => &[Stop, Cut, SameIdentity],
            Self::ClockStopsWithProcess => &[Stop, Lag],
            Self::AcknowledgeAnyway => &[Stop, SameIdentity],
            Self::IgnoreEpochs | Self::GrantBeforeLog | Self::SnapshotAnyway => &[],
        }
    }

    /// The first seed that shows it, so that it need not be looked for each time. After a change of the explorer another one
    /// may: `FREQCAP_MODEL_RUNS=5000` finds and prints it.
    pub fn seed(self) -> u64 {
        match self {
            Self::ReadWithoutLease => 1_096,
            Self::LeaseFromAnswer => 559,
            Self::RenewLapsed => 826,
            Self::ServeAtOnce => 20,
            Self::IgnoreOthersClaims => 16,
            Self::AcknowledgeAnyway => 24,
            Self::ReleaseWithoutServing => 2_726,
            Self::IgnoreEpochs => 7,
            Self::GrantBeforeLog => 2,
            Self::SnapshotAnyway => 4,
            Self::ClockStopsWithProcess => 22,
        }
    }
}
