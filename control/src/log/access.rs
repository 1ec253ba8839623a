//! Who may do what, as the log's store keeps it: rows by principal, which are not part of the log and go
//! to no edge. Written by the sequencer in line with the writes, so that what was allowed before a change
//! is before it.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::sync::oneshot;

use super::{
    Log, WriteError,
    corrupt::guarded,
    queue::Order,
    seal::{seal, unseal},
};

const ACCESS: TableDefinition<&str, &[u8]> = TableDefinition::new("access");

impl Log {
    /// All rows, by principal.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn access_rows(&self) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        guarded(|| {
            let transaction = self.shared.database.begin_read()?;
            let table = match transaction.open_table(ACCESS) {
                Ok(table) => table,
                // Nobody has ever been written down.
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (name, value) = row?;
                let name = name.value();
                let value = unseal(&ACCESS, name.as_bytes(), value.value())?;
                rows.push((name.to_owned(), value.to_vec()));
            }
            Ok(rows)
        })
    }

    /// Makes a row durable, or takes it out.
    ///
    /// # Errors
    /// If it cannot be made durable.
    pub async fn save_access(&self, name: String, row: Option<Vec<u8>>) -> Result<(), WriteError> {
        let (answer, answered) = oneshot::channel();
        let order = Order::SaveAccess { name, row, answer };
        self.shared.queue.order(order).map_err(|_| self.stopped())?;
        answered.await.unwrap_or_else(|_| Err(self.stopped()))
    }
}

/// Writes a row, or takes it out.
pub(super) fn save(
    database: &Database,
    name: &str,
    row: Option<Vec<u8>>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ACCESS)?;
        match row {
            Some(row) => {
                table.insert(name, seal(&ACCESS, name.as_bytes(), row).as_slice())?;
            }
            None => drop(table.remove(name)?),
        }
    }
    Ok(transaction.commit()?)
}
