-- What clients can be given, and the history that proxies follow.

-- One row. `floor`: the oldest revision whose successors are all in `config_change`.
CREATE TABLE config_head (
    id BIGINT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    floor BIGINT NOT NULL,
    epoch TEXT NOT NULL
);

-- The last change of each sync resource: a log that is coalesced as it is written.
CREATE TABLE config_change (
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (kind, owner, name)
);
CREATE INDEX config_change_revision ON config_change (revision);

-- Answers of writes, kept for a day so that a repeated write changes nothing.
CREATE TABLE remembered_requests (
    subject TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    answer TEXT NOT NULL,
    expire_time_ms BIGINT NOT NULL,
    PRIMARY KEY (subject, request_id)
);
CREATE INDEX remembered_requests_expire_time_ms ON remembered_requests (expire_time_ms);

CREATE TABLE credentials (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    names TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    sealed TEXT NOT NULL
);

CREATE TABLE upstreams (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    transport TEXT NOT NULL,
    catalog_scope TEXT NOT NULL,
    credential_id TEXT REFERENCES credentials (id),
    state TEXT NOT NULL,
    tags TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    create_time_ms BIGINT NOT NULL,
    update_time_ms BIGINT NOT NULL
);

-- What is known of an upstream, and which discovery is wanted next.
-- `wanted` counts wishes, `done` is the last one that was fulfilled; results of
-- wishes below `valid_from` belong to an older definition of the upstream.
CREATE TABLE discoveries (
    upstream_id TEXT NOT NULL PRIMARY KEY REFERENCES upstreams (id),
    wanted BIGINT NOT NULL,
    done BIGINT NOT NULL,
    valid_from BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    message TEXT NOT NULL,
    era TEXT,
    protocol_version TEXT NOT NULL,
    server_info TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    instructions TEXT NOT NULL,
    discovered_time_ms BIGINT NOT NULL,
    checked_time_ms BIGINT NOT NULL,
    notices TEXT NOT NULL
);

-- Authored tools (`rest`) and discovered ones (`upstream_id`, `original_name`).
-- A discovered tool that vanished keeps its row, hence its id and name, with
-- `gone_time_ms`, so that it comes back as itself.
-- `state` is `enabled` or `disabled`, here and elsewhere.
CREATE TABLE tools (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    alias TEXT UNIQUE,
    upstream_id TEXT REFERENCES upstreams (id),
    original_name TEXT,
    definition TEXT NOT NULL,
    rest TEXT,
    credential_id TEXT REFERENCES credentials (id),
    state TEXT NOT NULL,
    gone_time_ms BIGINT,
    tags TEXT NOT NULL,
    needs_client_capabilities TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    create_time_ms BIGINT NOT NULL,
    update_time_ms BIGINT NOT NULL,
    UNIQUE (upstream_id, original_name)
);

CREATE TABLE virtual_servers (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    naming TEXT NOT NULL,
    icon TEXT NOT NULL,
    state TEXT NOT NULL,
    tags TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    create_time_ms BIGINT NOT NULL,
    update_time_ms BIGINT NOT NULL
);

CREATE TABLE virtual_server_upstreams (
    server_id TEXT NOT NULL REFERENCES virtual_servers (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    upstream_id TEXT NOT NULL REFERENCES upstreams (id),
    PRIMARY KEY (server_id, upstream_id)
);
CREATE INDEX virtual_server_upstreams_upstream_id ON virtual_server_upstreams (upstream_id);

CREATE TABLE virtual_server_tools (
    server_id TEXT NOT NULL REFERENCES virtual_servers (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    tool_id TEXT NOT NULL REFERENCES tools (id) ON DELETE CASCADE,
    PRIMARY KEY (server_id, tool_id)
);
CREATE INDEX virtual_server_tools_tool_id ON virtual_server_tools (tool_id);
