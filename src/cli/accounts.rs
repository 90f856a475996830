//! `crashkeep user` and `crashkeep token`: the accounts of a data directory, also while a server has it
//! open.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::Value;

use super::common::Common;
use crate::access::commands::{self, AccountCommand, RunningServer};
use crate::appliance;
use crate::client::{self, Sent};
use crate::clock::{Clock, SystemClock};

#[derive(clap::Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add an account, or change the role of an existing one
    Add {
        name: String,
        /// viewer, protected or admin
        #[arg(long, value_name = "ROLE")]
        role: String,
    },
    /// Remove an account with its tokens and saved searches
    Remove { name: String },
    /// List the accounts: name, role, date of creation
    List,
}

#[derive(clap::Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Create a token and print its secret; the server does not store the secret
    Create {
        #[arg(long, value_name = "NAME")]
        user: String,
        /// submit, symbols:write, read, read:protected, reprocess, admin; default: all scopes of the user's role
        #[arg(long, value_name = "A,B", default_value = "")]
        scopes: String,
        /// A label that says what the token is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
        /// Days until the token expires; default: never
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// Revoke a token by its id in the list
    Revoke { id: u64 },
    /// List the tokens: id, user, scopes, expiry, label
    List,
}

pub(super) fn user(args: UserArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let command = match args.command {
        UserCommand::Add { name, role } => AccountCommand::UserAdd { name, role },
        UserCommand::Remove { name } => AccountCommand::UserRemove { name },
        UserCommand::List => AccountCommand::UserList,
    };
    let printed = carry_out(common, &command)?;
    print!("{printed}");
    if let AccountCommand::UserAdd { name, .. } = &command
        && printed.starts_with("added")
    {
        eprintln!("create a token for it: crashkeep token create --user {name}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn token(args: TokenArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let command = match args.command {
        TokenCommand::Create {
            user,
            scopes,
            label,
            days,
        } => AccountCommand::TokenCreate {
            user,
            scopes,
            label,
            days,
        },
        TokenCommand::Revoke { id } => AccountCommand::TokenRevoke { id },
        TokenCommand::List => AccountCommand::TokenList,
    };
    print!("{}", carry_out(common, &command)?);
    Ok(ExitCode::SUCCESS)
}

/// Executes a command on the store, or sends it to the server that has the store open.
fn carry_out(common: &Common, command: &AccountCommand) -> anyhow::Result<String> {
    let config = common.config()?;
    let opened = match appliance::store_alone(&config, &common.data) {
        Ok(opened) => opened,
        Err(in_use) => {
            return match RunningServer::find(&common.data)? {
                Some(server) => ask(&server, command),
                None => Err(in_use),
            };
        }
    };
    let printed = commands::run(&opened.store, command, SystemClock.now())?;
    opened.store.close();
    Ok(printed)
}

fn ask(server: &RunningServer, command: &AccountCommand) -> anyhow::Result<String> {
    let url = format!("http://{}/api/Accounts/", server.address);
    let sent = Sent::Post {
        content_type: "application/json".to_owned(),
        body: serde_json::to_vec(command)?,
    };
    let (status, answer) = client::ask(&url, sent, Some(&server.key))
        .context("the server that has the data directory open cannot be reached")?;
    if status != 200 {
        let error: Value = serde_json::from_str(&answer).unwrap_or_default();
        bail!("{}", error["error"].as_str().unwrap_or(answer.trim()));
    }
    Ok(answer)
}
