"""The template set that ``unjucks init`` makes: small, but shows variables, names, a partial, an injection and a golden test."""

from typing import Final

STARTER: Final[dict[str, str]] = {
    "unjucks.yaml": "description: Templates of this project\n",
    "_templates/component/generator.yaml": "description: Components of this project\n",
    "_templates/component/_shared/header.njk": "// {{ name | pascalCase }}: {{ description }}\n",
    "_templates/component/new/action.yaml": """\
description: A component with a test, added to the list of components
variables:
  name:
    type: string
    pattern: "^[A-Za-z][A-Za-z0-9-]*$"
    description: Name of the component, for example order-list
  description:
    type: string
    default: "what it is for"
    description: One line about it
  withTest:
    type: boolean
    default: true
    description: Whether a test is generated
""",
    "_templates/component/new/src/{{ name | kebabCase }}.ts.njk": """\
{% include "component/_shared/header.njk" %}
export class {{ name | pascalCase }} {
  readonly name = "{{ name | kebabCase }}";
}
""",
    "_templates/component/new/test.njk": """\
---
to: "test/{{ name | kebabCase }}.test.ts"
if: withTest
---
import { {{ name | pascalCase }} } from "../src/{{ name | kebabCase }}";

test("has a name", () => {
  expect(new {{ name | pascalCase }}().name).toBe("{{ name | kebabCase }}");
});
""",
    "_templates/component/new/index.njk": """\
---
to: src/index.ts
inject: true
append: true
create: true
---
export * from "./{{ name | kebabCase }}";
""",
    "_templates/component/new/_tests/plain/variables.yaml": "name: OrderList\n",
    "_templates/component/new/_tests/plain/base/src/index.ts": 'export * from "./user";\n',
    "_templates/component/new/_tests/plain/expected/src/index.ts": """\
export * from "./user";
export * from "./order-list";
""",
    "_templates/component/new/_tests/plain/expected/src/order-list.ts": """\
// OrderList: what it is for
export class OrderList {
  readonly name = "order-list";
}
""",
    "_templates/component/new/_tests/plain/expected/test/order-list.test.ts": """\
import { OrderList } from "../src/order-list";

test("has a name", () => {
  expect(new OrderList().name).toBe("order-list");
});
""",
}
