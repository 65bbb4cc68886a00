import type { NewOrder } from "../models/order.js";

/** Every problem of a value that should become an Order; an empty list means that it fits. */
export function checkOrder(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return ["must be an object"];
  const given = value as Record<string, unknown>;
  const problems: string[] = [];
  if (given.number === undefined) problems.push("number is required");
  else if (typeof given.number !== "number") problems.push("number must be a number");
  if (given.customerId === undefined) problems.push("customerId is required");
  else if (typeof given.customerId !== "string") problems.push("customerId must be a string");
  if (given.note !== undefined && typeof given.note !== "string") problems.push("note must be a string");
  return problems;
}

export function parseOrder(value: unknown): NewOrder {
  const problems = checkOrder(value);
  if (problems.length > 0) throw new Error(problems.join("; "));
  return value as NewOrder;
}
