// client.c in C#.
using System;
using System.Globalization;
using System.Runtime.InteropServices;

static class Client {
  const int Ok = 0, F64 = 2, Rows = 256, Columns = 8;

  [StructLayout(LayoutKind.Sequential)]
  struct Array {
    public IntPtr data;
    public int dtype, rank;
    public IntPtr shape, strides;
    public long size;
  }

  [StructLayout(LayoutKind.Sequential)]
  struct Metrics {
    public UIntPtr struct_size;
    public long rows;
    public double mse, rmse, mae, r2, normalized_mse, normalized_rmse, normalized_mae, weighted_rmse, expected_rmse;
    public double mean_z2, nlpd, coverage_68, coverage_95;
  }

  const string Library = "libbiv.so.0.1";
  [DllImport(Library)] static extern IntPtr biv_last_error_message();
  [DllImport(Library)] static extern int biv_set_num_threads(int threads);
  [DllImport(Library)] static extern int biv_dataset_create_from_arrays(ref Array features, ref Array labels,
                                                                        ref Array variances, out IntPtr dataset);
  [DllImport(Library)] static extern int biv_model_create(string options, out IntPtr model);
  [DllImport(Library)] static extern int biv_trainer_create(IntPtr model, IntPtr dataset, string options,
                                                            out IntPtr trainer);
  [DllImport(Library)] static extern int biv_trainer_fit(IntPtr trainer, long epochs, IntPtr test, IntPtr callback,
                                                         IntPtr user);
  [DllImport(Library)] static extern int biv_trainer_evaluate(IntPtr trainer, IntPtr dataset, ref Metrics metrics);
  [DllImport(Library)] static extern void biv_trainer_free(IntPtr trainer);
  [DllImport(Library)] static extern void biv_model_free(IntPtr model);
  [DllImport(Library)] static extern void biv_dataset_free(IntPtr dataset);

  static void Check(int status) {
    if (status != Ok) throw new Exception(Marshal.PtrToStringAnsi(biv_last_error_message()));
  }

  // The memory is pinned for as long as the program runs.
  static IntPtr Pin(object values) {
    return GCHandle.Alloc(values, GCHandleType.Pinned).AddrOfPinnedObject();
  }

  static Array Of(double[] values, params long[] shape) {
    return new Array { data = Pin(values), dtype = F64, rank = shape.Length, shape = Pin(shape) };
  }

  static void Main(string[] arguments) {
    double[] x = new double[Rows * Columns], y = new double[Rows], v = new double[Rows];
    for (int i = 0; i < x.Length; ++i) x[i] = i * 37 % 101 / 64.0;
    for (int i = 0; i < Rows; ++i) {
      y[i] = x[Columns * i] - 2 * x[Columns * i + 1] * x[Columns * i + 2];
      v[i] = i % 2 == 1 ? 0.0625 : 4;
    }
    Array features = Of(x, Rows, Columns), labels = Of(y, Rows), variances = Of(v, Rows);
    IntPtr data, model, trainer;
    Check(biv_set_num_threads(1));
    Check(biv_dataset_create_from_arrays(ref features, ref labels, ref variances, out data));
    Check(biv_model_create(arguments[0], out model));
    Check(biv_trainer_create(model, data, arguments[1], out trainer));
    Check(biv_trainer_fit(trainer, 5, IntPtr.Zero, IntPtr.Zero, IntPtr.Zero));
    var metrics = new Metrics { struct_size = (UIntPtr)Marshal.SizeOf(typeof(Metrics)) };
    Check(biv_trainer_evaluate(trainer, data, ref metrics));
    Console.WriteLine(metrics.rmse.ToString("G17", CultureInfo.InvariantCulture));
    biv_trainer_free(trainer);
    biv_model_free(model);
    biv_dataset_free(data);
  }
}
