"""Documents, their passages, and the two indexes that search uses."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        CREATE EXTENSION IF NOT EXISTS vector;

        CREATE TABLE documents (
            id uuid PRIMARY KEY,
            source text NOT NULL UNIQUE,
            content_hash text NOT NULL,
            metadata jsonb NOT NULL,
            chunks integer NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX ON documents USING gin (metadata);

        CREATE TABLE chunks (
            document_id uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
            position integer NOT NULL,
            heading text NOT NULL,
            text text NOT NULL,
            embedding vector, -- NULL: `reindex` has not come to it yet
            words tsvector GENERATED ALWAYS AS (to_tsvector('english', heading || ' ' || text)) STORED,
            PRIMARY KEY (document_id, position)
        );
        CREATE INDEX ON chunks USING gin (words);

        -- Words that thousands of passages have: to rank all those takes a second, and they tell little. From the
        -- statistics that autovacuum keeps.
        CREATE VIEW common_words AS
            SELECT lexeme
            FROM pg_stats, unnest(most_common_elems::text::text[], most_common_elem_freqs) AS common (lexeme, share)
            WHERE tablename = 'chunks' AND attname = 'words' AND lexeme IS NOT NULL
            AND share * (SELECT reltuples FROM pg_class WHERE oid = 'chunks'::regclass) > 2000;

        -- One row: the model that all vectors come from. Their index is built when its size is known.
        CREATE TABLE embedding_model (
            name text NOT NULL,
            dimensions integer NOT NULL,
            only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one)
        );
        """
    )


def downgrade() -> None:
    op.execute("DROP VIEW common_words; DROP TABLE embedding_model, chunks, documents")
