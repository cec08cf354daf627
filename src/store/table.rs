//! The tables, each a column family.

/// A table. Its name is part of the format on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Logs,
    Journal,
    Caps,
    Changes,
    Due,
    Reservations,
    Erased,
    Rules,
    KafkaOffsets,
    Meta,
}

impl Table {
    pub(crate) const ALL: [Table; 10] = [
        Table::Logs,
        Table::Journal,
        Table::Caps,
        Table::Changes,
        Table::Due,
        Table::Reservations,
        Table::Erased,
        Table::Rules,
        Table::KafkaOffsets,
        Table::Meta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Logs => "logs",
            Table::Journal => "journal",
            Table::Caps => "caps",
            Table::Changes => "changes",
            Table::Due => "due",
            Table::Reservations => "reservations",
            Table::Erased => "erased",
            Table::Rules => "rules",
            // The table's first name, which stays on disk.
            Table::KafkaOffsets => "pulled",
            Table::Meta => "meta",
        }
    }
}
