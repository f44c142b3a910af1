//! Which sequence owns which KV block: pool, block tables, reference counts.
