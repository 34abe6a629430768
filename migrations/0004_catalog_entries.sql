-- What upstreams offer besides tools: prompts, resources and resource templates.
-- `kind` is `prompt`, `resource` or `resource-template`; `original` is the
-- upstream's name of a prompt, a URI, or a URI template. `name` is the exposed
-- name of a prompt, NULL for the others. A prompt that vanished keeps its row,
-- hence its name, with `gone_time_ms`, so that it comes back as itself; the
-- others have nothing to keep.
CREATE TABLE catalog_entries (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    upstream_id TEXT NOT NULL REFERENCES upstreams (id),
    original TEXT NOT NULL,
    name TEXT UNIQUE,
    definition TEXT NOT NULL,
    gone_time_ms BIGINT,
    needs_client_capabilities TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    create_time_ms BIGINT NOT NULL,
    update_time_ms BIGINT NOT NULL,
    UNIQUE (upstream_id, kind, original)
);

-- Catalogs that were read before lack all of this.
UPDATE discoveries SET wanted = wanted + 1;
