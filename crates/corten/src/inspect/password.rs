//! Where the password comes from: never from the command line, which everybody on the machine can read.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use secrecy::SecretString;

/// Reads the first line of `file`, of standard input for `-`, or asks at the terminal, where nothing is echoed.
pub fn read(file: Option<&Path>, username: &str, address: &str) -> anyhow::Result<SecretString> {
    let line = match file {
        Some(file) if file.as_os_str() == "-" && !std::io::stdin().is_terminal() => {
            let mut line = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut line)
                .context("cannot read the password from standard input")?;
            line
        }
        Some(file) if file.as_os_str() != "-" => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the password file {}", file.display()))?,
        _ if std::io::stdin().is_terminal() => {
            rpassword::prompt_password(format!("Password of {username} at {address}: "))
                .context("cannot read the password")?
        }
        _ => bail!(
            "there is no terminal to ask for the password; give --password-file FILE, or - for standard input"
        ),
    };
    match line.lines().next() {
        Some(password) if !password.is_empty() => Ok(SecretString::from(password)),
        _ => bail!("the password is empty"),
    }
}
