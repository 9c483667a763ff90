mod documents;
mod judge;
mod making;
mod twins;
