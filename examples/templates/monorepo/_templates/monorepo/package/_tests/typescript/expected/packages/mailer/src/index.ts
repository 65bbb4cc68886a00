/** Sends mail */
export const name = "@acme/mailer";
