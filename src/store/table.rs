//! The tables, each a column family.

macro_rules! tables {
    ($($table:ident $name:literal)*) => {
        /// A table. Its name is part of the format on disk.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Table {
            $($table,)*
        }

        impl Table {
            pub(crate) const ALL: [Table; [$($name),*].len()] = [$(Table::$table),*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Table::$table => $name,)*
                }
            }
        }
    };
}

// `pulled` is the first name of that table; it stays on disk.
tables! {
    Logs "logs"
    Journal "journal"
    Caps "caps"
    Changes "changes"
    Due "due"
    Reservations "reservations"
    Erased "erased"
    Rules "rules"
    KafkaOffsets "pulled"
    Meta "meta"
    Audit "audit"
    Over "over"
}
