export interface BlogCategory {
  id: string;
  title: string;
  hidden?: boolean;
  deletedAt?: string;
}

export type NewBlogCategory = Omit<BlogCategory, "id" | "deletedAt">;
