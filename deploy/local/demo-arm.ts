/** The make-believe robot of the demo: an arm with two joints and a gripper, seen by two cameras. */

/** Joint positions: radians from upright (positive leans right, the elbow relative to the upper arm); gripper 0–1 open. */
export type ArmState = { readonly shoulder: number; readonly elbow: number; readonly gripper: number };

/** One demonstration: where the ball lies on the table, metres right of the arm, and where it is to be put. */
export type Demonstration = { readonly ball: number; readonly goal: number; readonly seconds: number };

type Point = { readonly x: number; readonly y: number };

const upper = 0.4;
const fore = 0.35;
const ballRadius = 0.03;

/** Picture size of both cameras. */
export const picture = { width: 320, height: 240 } as const;

/** What the arm is told to do at `time` seconds: reach, close, lift, carry, open, in equal parts with soft ends. */
export function commandAt({ ball, goal, seconds }: Demonstration, time: number): ArmState {
  const rest: ArmState = { shoulder: -0.4, elbow: 1.2, gripper: 1 };
  const route: ArmState[] = [
    rest,
    { ...reach({ x: ball, y: 0.2 }), gripper: 1 },
    { ...reach({ x: ball, y: ballRadius }), gripper: 1 },
    { ...reach({ x: ball, y: ballRadius }), gripper: 0.2 },
    { ...reach({ x: (ball + goal) / 2, y: 0.28 }), gripper: 0.2 },
    { ...reach({ x: goal, y: ballRadius }), gripper: 0.2 },
    { ...reach({ x: goal, y: ballRadius }), gripper: 1 },
    rest,
  ];
  const progress = Math.min(Math.max(time / seconds, 0), 1) * (route.length - 1);
  const leg = Math.min(Math.floor(progress), route.length - 2);
  const along = progress - leg;
  const share = along * along * (3 - 2 * along);
  const [from, to] = [route[leg] ?? rest, route[leg + 1] ?? rest];
  const between = (a: number, b: number) => a + (b - a) * share;
  return {
    shoulder: between(from.shoulder, to.shoulder),
    elbow: between(from.elbow, to.elbow),
    gripper: between(from.gripper, to.gripper),
  };
}

/** Where the arm is at `time` seconds: it follows its commands 0.1 s later. */
export function stateAt(demonstration: Demonstration, time: number): ArmState {
  return commandAt(demonstration, time - 0.1);
}

/** Joint angles that bring the gripper to `point` with the elbow up (law of cosines). */
function reach({ x, y }: Point): { shoulder: number; elbow: number } {
  const distance = Math.min(Math.hypot(x, y), upper + fore - 1e-6);
  const bend = Math.acos((upper ** 2 + fore ** 2 - distance ** 2) / (2 * upper * fore));
  const lean = Math.acos((upper ** 2 + distance ** 2 - fore ** 2) / (2 * upper * distance));
  return { shoulder: Math.atan2(x, y) - lean, elbow: Math.PI - bend };
}

function pose({ shoulder, elbow }: ArmState): { elbow: Point; hand: Point; heading: number } {
  const knee = { x: upper * Math.sin(shoulder), y: upper * Math.cos(shoulder) };
  const heading = shoulder + elbow;
  return {
    elbow: knee,
    hand: { x: knee.x + fore * Math.sin(heading), y: knee.y + fore * Math.cos(heading) },
    heading,
  };
}

function ballAt(demonstration: Demonstration, time: number): Point {
  const { ball, goal, seconds } = demonstration;
  const part = (time - 0.1) / (seconds / 7);
  if (part < 3) return { x: ball, y: ballRadius };
  return part < 5 ? pose(stateAt(demonstration, time)).hand : { x: goal, y: ballRadius };
}

/** What the fixed camera sees at `time`, as SVG: the arm from the side, the ball, the goal, the frame's number. */
export function frontView(demonstration: Demonstration, time: number, frame: number): string {
  const state = stateAt(demonstration, time);
  const { elbow, hand, heading } = pose(state);
  const at = ({ x, y }: Point): Point => ({ x: 70 + x * 290, y: 200 - y * 290 });
  const line = (a: Point, b: Point, colour: string, width: number) =>
    `<path d="M${two(at(a))}L${two(at(b))}" stroke="${colour}" stroke-width="${width}" stroke-linecap="round"/>`;
  const open = 0.015 + 0.03 * state.gripper;
  const fingers = [-1, 1].map((side) => {
    const root = offset(hand, heading, -0.03, side * open);
    return line(root, offset(hand, heading, 0.03, side * open), '#2b2d42', 5);
  });
  const ball = at(ballAt(demonstration, time));
  return svg('#dfe7ec', [
    '<rect y="209" width="320" height="31" fill="#a98467"/>',
    `<path d="M${two(at({ x: demonstration.goal - 0.05, y: -0.03 }))}h29" stroke="#2a9d8f" stroke-width="5"/>`,
    '<rect x="50" y="196" width="40" height="14" fill="#2b2d42"/>',
    line({ x: 0, y: 0 }, elbow, '#e07a1f', 17),
    line(elbow, offset(hand, heading, -0.03, 0), '#f2a65a', 12),
    line(offset(hand, heading, -0.03, -open), offset(hand, heading, -0.03, open), '#2b2d42', 5),
    ...fingers,
    ...[{ x: 0, y: 0 }, elbow].map((joint) => `<circle ${centre(at(joint))} r="6" fill="#fff"/>`),
    `<circle ${centre(ball)} r="${ballRadius * 290}" fill="#d62839"/>`,
    digits(frame, 268, 12),
  ]);
}

/** What the camera on the hand sees at `time`, as SVG: the world turns, the fingers stay. */
export function wristView(demonstration: Demonstration, time: number, frame: number): string {
  const state = stateAt(demonstration, time);
  const { hand, heading } = pose(state);
  const scale = 700;
  const at = (point: Point): Point => {
    const [dx, dy] = [point.x - hand.x, point.y - hand.y];
    const side = dx * Math.cos(heading) - dy * Math.sin(heading);
    const ahead = dx * Math.sin(heading) + dy * Math.cos(heading);
    return { x: 160 + side * scale, y: 130 - ahead * scale };
  };
  const table = [-3, 3].map((x) => at({ x, y: 0 }));
  const below = [3, -3].map((x) => at({ x, y: -3 }));
  const goal = [-0.05, 0.05].map((x) => at({ x: demonstration.goal + x, y: 0 }));
  const open = (0.015 + 0.03 * state.gripper) * scale;
  return svg('#dfe7ec', [
    `<path d="M${[...table, ...below].map(two).join('L')}Z" fill="#a98467"/>`,
    `<path d="M${goal.map(two).join('L')}" stroke="#2a9d8f" stroke-width="10"/>`,
    `<circle ${centre(at(ballAt(demonstration, time)))} r="${ballRadius * scale}" fill="#d62839"/>`,
    ...[-1, 1].map(
      (side) =>
        `<rect x="${fixed(160 + side * (open + 8) - 8)}" y="110" width="16" height="130" fill="#2b2d42"/>`,
    ),
    digits(frame, 268, 12),
  ]);
}

function offset(point: Point, heading: number, ahead: number, side: number): Point {
  return {
    x: point.x + ahead * Math.sin(heading) + side * Math.cos(heading),
    y: point.y + ahead * Math.cos(heading) - side * Math.sin(heading),
  };
}

function svg(background: string, parts: readonly string[]): string {
  const { width, height } = picture;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="100%" height="100%" fill="${background}"/>${parts.join('')}</svg>`;
}

/** Segments of a digit in the order top, upper left, upper right, middle, lower left, lower right, bottom. */
const segments = [
  '1110111',
  '0010010',
  '1011101',
  '1011011',
  '0111010',
  '1101011',
  '1101111',
  '1010010',
  '1111111',
  '1111011',
];
const strokes = ['M0,0h8', 'M0,0v8', 'M8,0v8', 'M0,8h8', 'M0,8v8', 'M8,8v8', 'M0,16h8'];

/** A number as seven-segment digits: readable in the picture on machines without any font. */
function digits(number: number, x: number, y: number): string {
  const drawn = Array.from(String(number).padStart(3, '0'), (digit, place) => {
    const lit = strokes.filter((_, index) => segments[Number(digit)]?.[index] === '1');
    return `<path transform="translate(${x + place * 14},${y})" d="${lit.join('')}"/>`;
  });
  return `<g fill="none" stroke="#1d3557" stroke-width="2.5" stroke-linecap="round">${drawn.join('')}</g>`;
}

const fixed = (value: number) => value.toFixed(2);
const two = ({ x, y }: Point) => `${fixed(x)},${fixed(y)}`;
const centre = ({ x, y }: Point) => `cx="${fixed(x)}" cy="${fixed(y)}"`;
