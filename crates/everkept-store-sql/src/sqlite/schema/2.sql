-- The full-text index has a file of its own now, which trails this one.
DROP TABLE to_index;
DROP TABLE search_text;
DROP TABLE search;

-- Who was forked from a log, to see whether anybody still needs it.
CREATE INDEX log_by_parent ON log (fork_of) WHERE fork_of IS NOT NULL;
