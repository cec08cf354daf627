//! The settings of memory.

use super::memory::{LEAST_BUDGET, Part};
use crate::settings::{Invalid, settings};
use crate::snapshot;
use crate::store::ByteSize;

settings! {
    /// The settings of memory: the budget of the process, and its shares.
    pub struct MemorySettings, MemoryFlags {
        "Memory" {
            memory: Option<ByteSize> = "auto", "SIZE|auto",
                "Memory of the whole process, 128MiB at least; the settings below are shares of it. auto is 1GiB, or half of the \
                 container's limit if that is less. (What --storage memory holds comes on top)";
            block_cache: Option<ByteSize> = "auto", "SIZE|auto", "For blocks read from disk: 384MiB of 1GiB";
            overlay_size: Option<ByteSize> = "auto", "SIZE|auto",
                "For logs that changed and are not in a file yet: 128MiB of 1GiB";
            existence_filter: Option<ByteSize> = "auto", "SIZE|auto",
                "For filters of which logs are on disk, 12 bits each: 112MiB of 1GiB";
            write_buffer: Option<ByteSize> = "auto", "SIZE|auto",
                "The journal's write buffer: 32MiB of 1GiB. The buffers of all tables take three times as much";
            max_bodies: Option<ByteSize> = "auto", "SIZE|auto",
                "For all request bodies under way and the batches made of them, more are answered 503: 64MiB of 1GiB";
            read_memory: Option<ByteSize> = "auto", "SIZE|auto",
                "For all reads under way that have much to read, more are answered 503: 40MiB of 1GiB";
            mailbox_memory: Option<ByteSize> = "auto", "SIZE|auto",
                "For events that wait for a writer or are in its turn, more are answered 503: 32MiB of 1GiB";
            connection_memory: Option<ByteSize> = "auto", "SIZE|auto",
                "For connections, and headers that are not whole yet: 88MiB of 1GiB";
            snapshot_memory: Option<ByteSize> = "auto", "SIZE|auto",
                "For files on their way into the bucket of --snapshots, 8MiB for each that is uploaded at once: 16MiB, or nothing \
                 without snapshots. A budget under 256MiB has no share for them, and uploads one at a time";
        }
    }
}

impl MemorySettings {
    /// Checks that each size is large enough, and no larger than can be used.
    pub(super) fn check(&self, max_body: ByteSize) -> Result<(), Invalid> {
        for (name, size, least) in [
            ("memory", self.memory, LEAST_BUDGET),
            ("block_cache", self.block_cache, ByteSize(64 << 10)),
            ("write_buffer", self.write_buffer, ByteSize(64 << 10)),
            ("overlay_size", self.overlay_size, ByteSize(64 << 10)),
            ("read_memory", self.read_memory, ByteSize::mib(1)),
            ("mailbox_memory", self.mailbox_memory, ByteSize(64 << 10)),
            ("connection_memory", self.connection_memory, ByteSize::mib(1)),
            ("snapshot_memory", self.snapshot_memory, ByteSize(snapshot::PART_BYTES)),
        ] {
            if size.is_some_and(|size| size < least) {
                return Err(Invalid::new(name, format!("is less than {least}")));
            }
        }
        // Rows of the overlay have 32-bit positions.
        if self.overlay_size.is_some_and(|size| size.0 > 4 << 30) {
            return Err(Invalid::new("overlay_size", "is more than 4GiB"));
        }
        if self.max_bodies.is_some_and(|most| most < max_body) {
            let why = format!("is less than max-body ({max_body}): no such body would ever be taken");
            return Err(Invalid::new("max_bodies", why));
        }
        Ok(())
    }

    /// What the setting of a part says.
    pub(super) fn size_of(&self, part: Part) -> Option<ByteSize> {
        match part {
            Part::BlockCache => self.block_cache,
            Part::Overlay => self.overlay_size,
            Part::ExistenceFilter => self.existence_filter,
            Part::WriteBuffers => self.write_buffer,
            Part::Bodies => self.max_bodies,
            Part::Reads => self.read_memory,
            Part::Mailboxes => self.mailbox_memory,
            Part::Connections => self.connection_memory,
            Part::Snapshots => self.snapshot_memory,
        }
    }
}
