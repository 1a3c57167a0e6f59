-- The full-text index has a file of its own now, which trails this one.
DROP TABLE to_index;
DROP TABLE search_text;
DROP TABLE search;

-- Who was forked from a log, to see whether anybody still needs it.
CREATE INDEX log_by_parent ON log (fork_of) WHERE fork_of IS NOT NULL;

-- When a session may be taken out of the trash for good.
ALTER TABLE session ADD COLUMN purge_at INTEGER;
CREATE INDEX session_by_purge ON session (purge_at) WHERE purge_at IS NOT NULL;
CREATE INDEX answer_by_session ON answer (session) WHERE session IS NOT NULL;
CREATE INDEX blob_session_by_session ON blob_session (session);

-- Logs that are gone and whose rows are not all taken away yet.
CREATE TABLE purging (
    log BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
