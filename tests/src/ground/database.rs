//! A relayer's database, and what a test reads in it.

use std::path::Path;

use anyhow::{Context, Result};
use sqlx::{AnyPool, AssertSqlSafe, Row, any::AnyPoolOptions};

/// Environment variable with the address of a PostgreSQL server for tests.
const SERVER: &str = "KMS_TEST_POSTGRES";

/// Where a relayer keeps everything.
#[derive(Debug, Clone)]
pub struct Database {
    /// As in the relayer's configuration.
    pub url: String,
}

/// A label and a number each.
pub type Rows = Vec<(String, i64)>;

impl Database {
    /// A new one: of the PostgreSQL server that `KMS_TEST_POSTGRES` names, or else a file of SQLite. Equal names in one
    /// folder are one database.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn of_this_run(home: &Path, name: &str) -> Result<Self> {
        match std::env::var(SERVER) {
            Ok(server) => Self::postgres(&server, home, name).await,
            Err(_) => Ok(Self::sqlite(home, name)),
        }
    }

    /// A file.
    pub fn sqlite(home: &Path, name: &str) -> Self {
        Self { url: format!("sqlite://{}/{name}.db", home.display()) }
    }

    /// A schema of its own on that server.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn postgres(server: &str, home: &Path, name: &str) -> Result<Self> {
        let folder = home.file_name().context("no folder")?.to_string_lossy().to_lowercase();
        let words = format!("{folder}_{name}");
        let schema: String = words.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let pool = connect(server).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"))).execute(&pool).await?;
        pool.close().await;
        Ok(Self { url: format!("{server}?options=-csearch_path%3D{schema}") })
    }

    /// The server for tests, if there is one.
    pub fn server() -> Option<String> {
        std::env::var(SERVER).ok()
    }

    /// Whether it is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    /// Runs a query that gives a text and a number per row.
    ///
    /// # Errors
    /// The database does not answer, or not like that.
    pub async fn rows(&self, sql: &str) -> Result<Rows> {
        let pool = connect(&self.url).await?;
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&pool).await?;
        pool.close().await;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn states(&self) -> Result<Rows> {
        self.rows("SELECT state, COUNT(*) FROM jobs GROUP BY state ORDER BY state").await
    }
}

async fn connect(url: &str) -> Result<AnyPool> {
    sqlx::any::install_default_drivers();
    AnyPoolOptions::new().max_connections(1).connect(url).await.with_context(|| "the database".to_owned())
}
