//! How relayers are asked.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use reqwest::{
    Client,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who asks.
#[derive(Debug, Args)]
pub(crate) struct Access {
    /// Key for the relayer's API, if it asks for one; only from the environment.
    #[arg(long, env = "KMS_RELAYER_API_KEY", hide = true, hide_env_values = true)]
    relayer_api_key: Option<String>,
}

impl Access {
    /// Shows the key with every call, and to nobody that the relayer sends us on to.
    ///
    /// # Errors
    /// The key can't stand in a header.
    pub(crate) fn client(&self) -> Result<Client> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.relayer_api_key {
            let bearer = HeaderValue::try_from(format!("Bearer {key}"));
            let mut bearer = bearer.context("KMS_RELAYER_API_KEY has characters that no key has")?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let builder = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        Ok(builder.default_headers(headers).build()?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What a server is sent.
    async fn sent(key: Option<&str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = Access { relayer_api_key: key.map(str::to_owned) }.client().unwrap();
        let asking = tokio::spawn(async move { client.get(url).send().await.unwrap().status() });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap();
        // Nobody follows: there is no second connection.
        stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(asking.await.unwrap(), 302);
        String::from_utf8_lossy(&head[..read]).into_owned()
    }

    #[tokio::test]
    async fn the_key_is_shown_to_the_relayer_alone() {
        let head = sent(Some("kms_secret")).await;
        assert!(head.contains("authorization: Bearer kms_secret\r\n"), "{head}");
        assert!(!sent(None).await.contains("authorization"));
        let access = Access { relayer_api_key: Some("two\nlines".into()) };
        assert!(access.client().unwrap_err().to_string().contains("KMS_RELAYER_API_KEY"));
    }
}
