-- Single prompts, resources and templates of a virtual server. They are named by what their
-- upstream calls them, so that one that vanishes from its catalog is chosen when it returns.
CREATE TABLE virtual_server_entries (
    server_id TEXT NOT NULL REFERENCES virtual_servers (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    original TEXT NOT NULL,
    PRIMARY KEY (server_id, upstream_id, kind, original)
);
CREATE INDEX virtual_server_entries_upstream_id ON virtual_server_entries (upstream_id);
