export interface Order {
  id: string;
  number: number;
  customerId: string;
  note?: string;
}

export type NewOrder = Omit<Order, "id">;
