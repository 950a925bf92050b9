/**
 * Which files start first: Vitest begins with the largest where it knows nothing of a run before, as on a clean checkout. Of lab tests some small
 * files take minutes; begun last, each would be waited for while other labs have nothing to do.
 */
import path from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const SMALL_AND_LONG = ['chaos', 'churn', 'many', 'guides', 'image', 'labs', 'hanging', 'outlive', 'endings'];

const isLong = ({ moduleId }: TestSpecification): boolean =>
  SMALL_AND_LONG.some((name) => path.basename(moduleId) === `${name}.lab.test.ts`);

export default class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}
