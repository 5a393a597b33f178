/** How the elements of a document that is made harmless are drawn. */

import type { ComponentProps, JSX } from "react";

type Heading = "h1" | "h2" | "h3" | "h4" | "h5" | "h6";
const LEVELS = [1, 2, 3, 4, 5, 6] as const;

/** Its headings come below the title of the viewer, which is of this level. */
export function elementsBelow(level: number) {
  const headings = LEVELS.map((own) => {
    const Tag = `h${Math.min(6, own + level)}` as Heading;
    return [
      `h${own}`,
      ({ children, dir, lang }: JSX.IntrinsicElements["h1"]) => (
        <Tag className={`doc-h${own}`} {...(dir ? { dir } : {})} {...(lang ? { lang } : {})}>
          {children}
        </Tag>
      ),
    ] as const;
  });
  return {
    ...(Object.fromEntries(headings) as Record<Heading, (props: JSX.IntrinsicElements["h1"]) => JSX.Element>),
    a: Link,
    img: Image,
    table: Table,
    pre: Code,
  };
}

function Link({ href, children }: ComponentProps<"a">) {
  if (!href) return <span>{children}</span>;
  return (
    <a href={href} target="_blank" rel="noreferrer noopener">
      {children}
    </a>
  );
}

/** Loading it would tell its host who reads what. */
function Image({ alt }: ComponentProps<"img">) {
  return <span className="doc-image">[image{alt ? `: ${alt}` : ""}]</span>;
}

function Table({ children }: ComponentProps<"table">) {
  return (
    // biome-ignore lint/a11y: a wide table is scrolled by keyboard too; a section would be a landmark, a fieldset a form
    <div className="doc-table" role="group" aria-label="Table" tabIndex={0}>
      <table>{children}</table>
    </div>
  );
}

function Code({ children }: ComponentProps<"pre">) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: long lines are scrolled by keyboard too
    <pre dir="ltr" tabIndex={0}>
      {children}
    </pre>
  );
}
