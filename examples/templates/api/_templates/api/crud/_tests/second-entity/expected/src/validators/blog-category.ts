import type { NewBlogCategory } from "../models/blog-category.js";

/** Every problem of a value that should become a BlogCategory; an empty list means that it fits. */
export function checkBlogCategory(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return ["must be an object"];
  const given = value as Record<string, unknown>;
  const problems: string[] = [];
  if (given.title === undefined) problems.push("title is required");
  else if (typeof given.title !== "string") problems.push("title must be a string");
  if (given.hidden !== undefined && typeof given.hidden !== "boolean") problems.push("hidden must be a boolean");
  return problems;
}

export function parseBlogCategory(value: unknown): NewBlogCategory {
  const problems = checkBlogCategory(value);
  if (problems.length > 0) throw new Error(problems.join("; "));
  return value as NewBlogCategory;
}
