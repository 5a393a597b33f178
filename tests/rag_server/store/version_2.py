"""A small store as version 2 of the layout wrote it: its statements for either database, and every row of a real one."""

SQLITE = """
CREATE TABLE embeddings (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    model VARCHAR NOT NULL,
    dimension INTEGER NOT NULL,
    location TEXT,
    checksum BIGINT NOT NULL,
    UNIQUE (model)
);
CREATE TABLE facts (
    name VARCHAR NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE keys (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    secret_hash VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    principals JSON,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (secret_hash)
);
CREATE TABLE uploads (
    id VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    filename VARCHAR NOT NULL,
    purpose VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    principals JSON,
    is_complete BOOLEAN NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_uploads_tenant ON uploads (tenant);
CREATE TABLE upload_parts (
    upload_id VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    content BLOB NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (upload_id, number),
    FOREIGN KEY(upload_id) REFERENCES uploads (id)
);
CREATE TABLE vector_stores (
    id VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    created_at BIGINT NOT NULL,
    embedding_id INTEGER NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (tenant, name),
    FOREIGN KEY(embedding_id) REFERENCES embeddings (id)
);
CREATE TABLE deletions (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    vector_store_id VARCHAR NOT NULL,
    chunk_id INTEGER,
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id)
);
CREATE INDEX deletions_of_vector_store ON deletions (vector_store_id, id, chunk_id);
CREATE TABLE files (
    "key" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id VARCHAR NOT NULL,
    vector_store_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    filename VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    status VARCHAR NOT NULL,
    fingerprint VARCHAR,
    attributes JSON NOT NULL,
    principals JSON,
    chunking JSON,
    error TEXT,
    bytes_read BIGINT NOT NULL,
    lease_owner VARCHAR,
    lease_until FLOAT,
    attempts INTEGER NOT NULL,
    checksum BIGINT NOT NULL,
    UNIQUE (vector_store_id, source),
    UNIQUE (vector_store_id, id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id)
);
CREATE INDEX files_by_status ON files (status);
CREATE TABLE documents (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    vector_store_id VARCHAR NOT NULL,
    file_key INTEGER NOT NULL,
    document_id VARCHAR NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    attributes JSON NOT NULL,
    content_hash VARCHAR NOT NULL,
    checksum BIGINT NOT NULL,
    UNIQUE (file_key, document_id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id),
    FOREIGN KEY(file_key) REFERENCES files ("key")
);
CREATE INDEX documents_of_vector_store ON documents (vector_store_id);
CREATE TABLE file_principals (
    file_key INTEGER NOT NULL,
    principal VARCHAR NOT NULL,
    PRIMARY KEY (file_key, principal),
    FOREIGN KEY(file_key) REFERENCES files ("key")
);
CREATE TABLE chunks (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    vector_store_id VARCHAR NOT NULL,
    document_key INTEGER NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    text TEXT NOT NULL,
    place JSON NOT NULL,
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id),
    FOREIGN KEY(document_key) REFERENCES documents (id)
);
CREATE INDEX chunks_of_vector_store ON chunks (vector_store_id, id);
CREATE INDEX ix_chunks_document_key ON chunks (document_key);
CREATE TABLE attributes (
    id INTEGER NOT NULL,
    vector_store_id VARCHAR NOT NULL,
    document_key INTEGER NOT NULL,
    chunk_id INTEGER,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    text TEXT,
    number FLOAT,
    PRIMARY KEY (id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id),
    FOREIGN KEY(document_key) REFERENCES documents (id),
    FOREIGN KEY(chunk_id) REFERENCES chunks (id)
);
CREATE INDEX attributes_by_name ON attributes (vector_store_id, name);
CREATE INDEX ix_attributes_chunk_id ON attributes (chunk_id);
CREATE INDEX ix_attributes_document_key ON attributes (document_key);
CREATE TABLE vectors (
    embedding_id INTEGER NOT NULL,
    chunk_id INTEGER NOT NULL,
    vector BLOB NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (embedding_id, chunk_id),
    FOREIGN KEY(embedding_id) REFERENCES embeddings (id),
    FOREIGN KEY(chunk_id) REFERENCES chunks (id)
)
 WITHOUT ROWID;
CREATE INDEX ix_vectors_chunk_id ON vectors (chunk_id);
"""

POSTGRESQL = """
CREATE TABLE embeddings (
    id BIGSERIAL NOT NULL,
    model VARCHAR NOT NULL,
    dimension INTEGER NOT NULL,
    location TEXT,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (model)
);
CREATE TABLE facts (
    name VARCHAR NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE keys (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    secret_hash VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    principals JSON,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (secret_hash)
);
CREATE TABLE uploads (
    id VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    filename VARCHAR NOT NULL,
    purpose VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    principals JSON,
    is_complete BOOLEAN NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_uploads_tenant ON uploads (tenant);
CREATE TABLE upload_parts (
    upload_id VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    content BYTEA NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (upload_id, number),
    FOREIGN KEY(upload_id) REFERENCES uploads (id)
);
CREATE TABLE vector_stores (
    id VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    created_at BIGINT NOT NULL,
    embedding_id BIGINT NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (tenant, name),
    FOREIGN KEY(embedding_id) REFERENCES embeddings (id)
);
CREATE TABLE deletions (
    id BIGSERIAL NOT NULL,
    vector_store_id VARCHAR NOT NULL,
    chunk_id BIGINT,
    PRIMARY KEY (id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id)
);
CREATE INDEX deletions_of_vector_store ON deletions (vector_store_id, id, chunk_id);
CREATE TABLE files (
    key BIGSERIAL NOT NULL,
    id VARCHAR COLLATE "C" NOT NULL,
    vector_store_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    filename VARCHAR COLLATE "C" NOT NULL,
    bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    status VARCHAR NOT NULL,
    fingerprint VARCHAR,
    attributes JSON NOT NULL,
    principals JSON,
    chunking JSON,
    error TEXT,
    bytes_read BIGINT NOT NULL,
    lease_owner VARCHAR,
    lease_until FLOAT,
    attempts INTEGER NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (key),
    UNIQUE (vector_store_id, source),
    UNIQUE (vector_store_id, id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id)
);
CREATE INDEX files_by_status ON files (status);
CREATE TABLE documents (
    id BIGSERIAL NOT NULL,
    vector_store_id VARCHAR NOT NULL,
    file_key BIGINT NOT NULL,
    document_id VARCHAR COLLATE "C" NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    attributes JSON NOT NULL,
    content_hash VARCHAR NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (file_key, document_id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id),
    FOREIGN KEY(file_key) REFERENCES files (key)
);
CREATE INDEX documents_of_vector_store ON documents (vector_store_id);
CREATE TABLE file_principals (
    file_key BIGINT NOT NULL,
    principal VARCHAR NOT NULL,
    PRIMARY KEY (file_key, principal),
    FOREIGN KEY(file_key) REFERENCES files (key)
);
CREATE TABLE chunks (
    id BIGSERIAL NOT NULL,
    vector_store_id VARCHAR NOT NULL,
    document_key BIGINT NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    text TEXT NOT NULL,
    place JSON NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id),
    FOREIGN KEY(document_key) REFERENCES documents (id)
);
CREATE INDEX chunks_of_vector_store ON chunks (vector_store_id, id);
CREATE INDEX ix_chunks_document_key ON chunks (document_key);
CREATE TABLE attributes (
    id BIGSERIAL NOT NULL,
    vector_store_id VARCHAR NOT NULL,
    document_key BIGINT NOT NULL,
    chunk_id BIGINT,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    text TEXT COLLATE "C",
    number FLOAT,
    PRIMARY KEY (id),
    FOREIGN KEY(vector_store_id) REFERENCES vector_stores (id),
    FOREIGN KEY(document_key) REFERENCES documents (id),
    FOREIGN KEY(chunk_id) REFERENCES chunks (id)
);
CREATE INDEX attributes_by_name ON attributes (vector_store_id, name);
CREATE INDEX ix_attributes_chunk_id ON attributes (chunk_id);
CREATE INDEX ix_attributes_document_key ON attributes (document_key);
CREATE TABLE vectors (
    embedding_id BIGINT NOT NULL,
    chunk_id BIGINT NOT NULL,
    vector BYTEA NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (embedding_id, chunk_id),
    FOREIGN KEY(embedding_id) REFERENCES embeddings (id),
    FOREIGN KEY(chunk_id) REFERENCES chunks (id)
);
CREATE INDEX ix_vectors_chunk_id ON vectors (chunk_id);
"""

# Given out before; the newest chunk was deleted.
NEWEST_IDS = {"embeddings": 1, "files": 3, "documents": 2, "chunks": 3, "deletions": 1, "attributes": 4}

# By table: the columns, and the values; JSON as the text that is stored.
ROWS: dict[str, tuple[tuple[str, ...], list[tuple]]] = {
    "facts": (
        ("name", "value"),
        [
            ("commits", 18),
            ("schema", 2),
        ],
    ),
    "embeddings": (
        ("id", "model", "dimension", "location", "checksum"),
        [
            (1, "m", 4, None, 3965931312),
        ],
    ),
    "vector_stores": (
        ("id", "tenant", "name", "created_at", "embedding_id", "checksum"),
        [
            ("vs_000000000000000000000002", "", "docs", 1700000020, 1, 3995669603),
            ("vs_000000000000000000000003", "team", "docs", 1700000030, 1, 2993915607),
        ],
    ),
    "uploads": (
        ("id", "tenant", "filename", "purpose", "bytes", "created_at", "principals", "is_complete", "checksum"),
        [
            (
                "file-000000000000000000000006",
                "team",
                "räksmörgås.txt",
                "assistants",
                6,
                1700000100,
                '["blue", "red"]',
                True,
                1154518048,
            ),
            ("file-000000000000000000000007", "", "e", "batch", 0, 1700000120, None, True, 2349999373),
        ],
    ),
    "upload_parts": (
        ("upload_id", "number", "content", "checksum"),
        [
            ("file-000000000000000000000006", 0, b"one", 2053932785),
            ("file-000000000000000000000006", 1, b"two", 298486374),
        ],
    ),
    "files": (
        (
            "key",
            "id",
            "vector_store_id",
            "source",
            "filename",
            "bytes",
            "created_at",
            "status",
            "fingerprint",
            "attributes",
            "principals",
            "chunking",
            "error",
            "bytes_read",
            "lease_owner",
            "lease_until",
            "attempts",
            "checksum",
        ),
        [
            (
                1,
                "file-000000000000000000000004",
                "vs_000000000000000000000002",
                "/papers/a.md",
                "a.md",
                9,
                1700000050,
                "completed",
                "f",
                '{"team": "red"}',
                '["Zoe", "ann"]',
                '{"max_tokens": 100, "overlap_tokens": 10}',
                None,
                9,
                None,
                None,
                0,
                994273462,
            ),
            (
                3,
                "file-000000000000000000000006",
                "vs_000000000000000000000003",
                "upload:file-000000000000000000000006",
                "räksmörgås.txt",
                6,
                1700000110,
                "queued",
                None,
                "{}",
                '["red"]',
                None,
                None,
                0,
                None,
                None,
                0,
                3585523106,
            ),
        ],
    ),
    "file_principals": (
        ("file_key", "principal"),
        [
            (1, "Zoe"),
            (1, "ann"),
            (3, "red"),
        ],
    ),
    "documents": (
        ("id", "vector_store_id", "file_key", "document_id", "title", "text", "attributes", "content_hash", "checksum"),
        [
            (
                1,
                "vs_000000000000000000000002",
                1,
                "a.md",
                "Title",
                "Cats sleep. Dogs bark.",
                '{"year": 1999}',
                "hash of Cats sleep. Dogs bark.",
                1342795839,
            ),
        ],
    ),
    "chunks": (
        ("id", "vector_store_id", "document_key", "start", "end", "text", "place"),
        [
            (1, "vs_000000000000000000000002", 1, 0, 12, "Cats sleep. ", '{"page": 1.0}'),
            (2, "vs_000000000000000000000002", 1, 12, 22, "Dogs bark.", "{}"),
        ],
    ),
    "vectors": (
        ("embedding_id", "chunk_id", "vector", "checksum"),
        [
            (1, 1, b"\x00\x00\x80?\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1338088621),
            (1, 2, b"\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00\x00\x00\x00\x00\x00", 4214639959),
        ],
    ),
    "attributes": (
        ("id", "vector_store_id", "document_key", "chunk_id", "name", "kind", "text", "number"),
        [
            (1, "vs_000000000000000000000002", 1, None, "team", "string", "red", None),
            (2, "vs_000000000000000000000002", 1, None, "year", "number", None, 1999.0),
            (3, "vs_000000000000000000000002", 1, 1, "page", "number", None, 1.0),
        ],
    ),
    "deletions": (
        ("id", "vector_store_id", "chunk_id"),
        [
            (1, "vs_000000000000000000000002", 3),
        ],
    ),
    "keys": (
        ("id", "name", "secret_hash", "tenant", "principals", "created_at", "revoked_at", "checksum"),
        [
            (
                "key_0000000000000008",
                "laptop",
                "8cc605d8d692a55de9b4baf620878a78b33eb04e751a253af54c04e011eb6423",
                "team",
                '["red"]',
                1700000130,
                None,
                2753523861,
            ),
            (
                "key_0000000000000009",
                "old",
                "c6e25c356c43f39590c383bec2f1ba5d1bd464f8255bf4a42edc320cd0eba7cc",
                "",
                None,
                1700000140,
                1700000150,
                1254047591,
            ),
        ],
    ),
}
