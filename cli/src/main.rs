//! `edgesync`, the operator's command. It knows no rules: it turns words into calls and answers
//! into tables or JSON. One file a group of commands; each of them begins with its arguments.

mod access;
mod apply;
mod args;
mod audit;
mod connect;
mod demo;
mod edge;
mod failure;
mod fleet;
mod format;
mod log;
mod output;
mod pki;
mod progress;
mod record;
mod release;
mod wait;
mod zone;

#[cfg(test)]
mod testing;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

use crate::{
    args::{Cli, Command},
    connect::Target,
    failure::{Failure, Outcome},
    output::Printer,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::exit(Err(Failure::Runtime(error))),
    };
    let result = runtime.block_on(run(cli));
    // A thread that still reads stdin must not keep the command from its end.
    runtime.shutdown_background();
    failure::exit(result)
}

async fn run(cli: Cli) -> Result<Outcome, Failure> {
    let Cli { control, token_file, output, command } = cli;
    let control = match &command {
        // What needs no control plane needs no token either.
        Command::Edge(_) | Command::Audit { .. } | Command::Demo(_) | Command::Login(_) => {
            Target::of(&control)
        }
        Command::Access { command } if command.is_offline() => Target::of(&control),
        _ => access::target(&control, token_file.as_deref())?,
    };
    let mut printer = Printer::stdout(output);
    let outcome = match command {
        Command::Edge(edge) => edge::run(edge, &mut printer).await?,
        Command::Zone { command } => zone::run(command, &control, &mut printer).await?,
        Command::Record { command } => record::run(command, &control, &mut printer).await?,
        Command::Apply(apply) => apply::run(apply, &control, &mut printer).await?,
        Command::Fleet(fleet) => fleet::run(fleet, &control, &mut printer).await?,
        Command::Wait(wait) => wait::run(wait, &control, &mut printer).await?,
        Command::Freeze(freeze) => release::freeze(freeze, &control, &mut printer).await?,
        Command::Unfreeze => release::unfreeze(&control, &mut printer).await?,
        Command::Release => release::show(&control, &mut printer).await?,
        Command::Log(log) => log::run(log, &control, &mut printer).await?,
        Command::Login(login) => access::login(login, &control, &mut printer).await?,
        Command::Logout => access::logout(&control).await?,
        Command::Access { command } => access::run(command, &control, &mut printer).await?,
        Command::Audit { command } => audit::run(command, &mut printer)?,
        Command::Pki { command } => pki::run(command, &mut printer)?,
        Command::Demo(demo) => demo::run(demo, &mut printer).await?,
    };
    printer.flush()?;
    Ok(outcome)
}
