import { Component, type ReactNode } from "react";
import { NOT_LAID_OUT, SeeText } from "./Notices";

interface GuardedProps {
  onText(): void;
  children: ReactNode;
}

/** Of a document that cannot be laid out, such as one nested too deeply, the text can still be read. */
export class Guarded extends Component<GuardedProps, { isBroken: boolean }> {
  override state = { isBroken: false };

  static getDerivedStateFromError() {
    return { isBroken: true };
  }

  override render() {
    if (!this.state.isBroken) return this.props.children;
    return <SeeText onText={this.props.onText}>{NOT_LAID_OUT}</SeeText>;
  }
}
